// SPDX-License-Identifier: Apache-2.0
//
// Scripts for what other overlay filesystems got wrong, run beside the model (script.h has the
// language, generator.h what lower_script() makes).
#include <gtest/gtest.h>

#include "tests/model/driver.h"
#include "tests/model/overlay_subject.h"

namespace layerfs {
namespace {

struct Case {
  const char* name;
  const char* script;
};

const Case kCases[] = {
    {"DeletedFilesStayDeleted", R"(
       unlink a/b/c/e = ok
       rmdir a/b/c = ok
       unlink a/a = ok
       mkdir a/b/c 755 = ok
       create a/b/c/x 644 = ok
       remount
       list a/b/c = x
       read a/b/c/e = ENOENT
       read a/a = ENOENT
       list a = b)"},
    {"HardLinksOfTheLowerSurviveAWrite", R"(
       nlink a/a = 2
       put b/f SMALL = ok
       read a/a = SMALL
       remount
       read a/a = SMALL
       nlink b/f = 2
       unlink a/a = ok
       nlink b/f = 1
       link b/f a/again = ok
       remount
       read a/again = SMALL
       nlink b/f = 2)"},
    {"LinkCountsFollowNames", R"(
       nlink a/b = 3
       link a/b/d x = ok
       nlink d = 3
       hold h x = ok
       unlink x = ok
       unlink d = ok
       unlink a/b/d = ok
       nlink @h = 0
       write @h 10 5 1 = ok
       size @h = 100000
       link @h back = ENOENT
       release h = ok)"},
    {"NamesCanBeUsedAgain", R"(
       unlink c = ok
       mkdir c 755 = ok
       create c/x 644 = ok
       rename c y = ok
       create c 644 = ok
       unlink c = ok
       symlink to c = ok
       unlink c = ok
       mknod c fifo 644 0 0 = ok
       rename b c = ENOTDIR
       rename c b = EISDIR
       rename y c = ENOTDIR
       unlink c = ok
       rename b c = ok
       create b 644 = ok
       remount
       list y = x
       list c = a c e f)"},
    {"WhiteoutsHideNothingButTheirName", R"(
       rename a z = ok
       mkdir a 755 = ok
       list a = nothing
       create a/a 600 = ok
       unlink a/a = ok
       remount
       list a = nothing
       rmdir a = ok
       rename z a = ok
       read a/b/c/e = deep
       read a/a = small)"},
    {"SymlinksReplaceAndAreReplaced", R"(
       unlink e = ok
       create e 644 = ok
       put e file = ok
       rename e c = ok
       symlink c e = ok
       remount
       read c = file
       read e = EINVAL
       unlink e = ok
       remount
       read e = ENOENT
       read c = file)"},
    {"DirectoriesOfAnyLayerMove", R"(
       rename a b/moved = ok
       nlink . = 4
       nlink b = 3
       read b/moved/b/c/e = deep
       rename b/moved/b/c c = ENOTDIR
       rename b/moved b/moved/b/x = EINVAL
       rename b b/moved = EINVAL
       rename b/moved/b b/moved = ENOTEMPTY
       rename b/moved/b/c b/moved/b exchange = EINVAL
       remount
       rename b/moved/b/c deep = ok
       list b/moved/b = d
       nlink b/moved/b = 2
       rename deep b/moved/b exchange = ok
       list deep = d
       list b/moved/b = e
       remount
       list deep = d)"},
    {"RenameFlags", R"(
       rename c d noreplace = EEXIST
       rename c none exchange = ENOENT
       rename c a/b exchange = ok
       list c = c d
       read a/b = 0:2d06800538d394c2
       rename b gone whiteout = ok
       stat b = type=4 mode=0 uid=0 gid=0 nlink=1 size=0 rdev=0:0
       list gone = a c e f
       rename a/a b/f = ENOTDIR
       rename a/a gone/f = ok
       list a = a b)"},
    {"PrivilegesGoWhenOthersWrite", R"(
       truncate a/a 3 = ok
       mode a/a = 4755
       write a/a 0 1 1 member = ok
       mode a/a = 755
       getxattr b/e security.capability = 20:a817b8dbd17e4375
       truncate b/e 5 = ok
       getxattr b/e security.capability = ENODATA
       getxattr b/e user.a = 1
       chmod b/e 6755 = ok
       chown b/e 5 5 = ok
       mode b/e = 755
       write b/a 0 1 1 member = ok
       mode b/a = 2644
       chmod b/e 6755 = ok
       fallocate b/e punch 0 1 member = ok
       mode b/e = 755
       write b/a 0 1 1 stranger = ok
       mode b/a = 644
       chmod b/a 6644 = ok
       fallocate b/a zero 0 1 member = ok
       mode b/a = 2644
       fallocate b/a zero 0 1 stranger = ok
       mode b/a = 644)"},
    {"DeviceZeroZero", R"(
       mknod a/n char 600 0 0 = ok
       list a = a b n
       list b = a c e f
       rename b/c a/b/c2 = ok
       remount
       list a = a b n
       list a/b = c c2 d
       stat a/n = type=4 mode=600 uid=0 gid=0 nlink=1 size=0 rdev=0:0)"},
    {"ManyXattrs", R"(
       setxattr c user.01 a = ok
       setxattr c user.02 a = ok
       setxattr c user.03 %*62:3000 = ok
       setxattr c trusted.x a create = ok
       setxattr c trusted.x a create = EEXIST
       setxattr c user.04 a replace = ENODATA
       setxattr e trusted.l link = ok
       setxattr b/e user.b 2 = ok
       remount
       getxattr e trusted.l = link
       getxattr b/e user.a = 1
       removexattr b/e user.a = ok
       removexattr b/e user.a = ENODATA
       getxattr c trusted.x = a)"},
    {"LongNames", R"(
       create %*61:255 644 = ok
       create %*61:256 644 = ENAMETOOLONG
       stat %*62:256 = ENAMETOOLONG
       rename %*61:255 %*61:256 = ENAMETOOLONG
       mkdir %ff%0a%01 755 = ok
       create %ff%0a%01/%20 644 = ok
       remount
       unlink %*61:255 = ok
       unlink %ff%0a%01/%20 = ok)"},
    {"RemovedDirectoriesAcceptNothing", R"(
       mkdir x 755 = ok
       hold h x = ok
       rmdir x = ok
       create @h/f 644 = ENOENT
       list @h = nothing
       nlink @h = 0
       unlink a/b/c/e = ok
       hold i a/b/c = ok
       rmdir a/b/c = ok
       stat @i/e = ENOENT
       rename c @i/c = ENOENT
       tmpfile t @i 600 = ENOENT)"},
    {"RangesAndTails", R"(
       write d 50000 1 7 = ok
       truncate d 60000 = ok
       truncate d 90000 = ok
       write d 120000 10 8 = ok
       fallocate d punch 49000 2000 = ok
       fallocate d zero 10 100 = ok
       fallocate d alloc 119000 50000 = ok
       size d = 169000
       fallocate d keep 200000 4096 = ok
       size d = 169000
       truncate d 0 = ok
       write d 20000 3 9 = ok
       remount
       write b/a 39999 30000 1 = ok
       truncate b/a 20000 = ok
       truncate b/a 80000 = ok
       copy b/a 100 c 5 30000 = 30000
       copy c 0 d 19000 30005 = 30005
       create x 644 = ok
       write x 56 16 304 = ok
       fallocate x zero 32 286 = ok
       size x = 318
       remount
       fallocate x zero 16000 9000 = ok)"},
    {"AFullHostRefusesAndGoesOn", R"(
       fault 0 create x 644 = ENOSPC
       stat x = ENOENT
       fault 0 rename a b/z = ENOSPC
       create x 644 = ok
       fault 0 write d 5 1000 1 = ENOSPC
       write d 5 1000 1 = ok
       fault 0 unlink d = ENOSPC
       fault 0 unlink d = ENOSPC
       crash
       unlink d = ok
       crash)"},
    {"ACommitLosesNothingButSockets", R"(
       mknod s socket 600 0 0 = ok
       write d 50000 10 1 = ok
       rename a b/a2 = ok
       link c b/again = ok
       hold h c = ok
       commit
       read @h = EBADF
       stat s = ENOENT
       nlink c = 2
       nlink d = 2
       write d 60000 10 1 = ok
       unlink b/again = ok
       rename b/a2 a = ok
       commit
       nlink c = 1)"},
    {"AclsAreInheritedAndFollowChmod", R"(
       create f/x 666 = ok
       getacl f/x access = u::6,u:1:5,g::5,m::6,o::4
       mode f/x = 664
       chmod f/x 600 = ok
       getacl f/x access = u::6,u:1:5,g::5,m::0,o::0
       mkdir f/y 777 = ok
       getacl f/y default = u::7,u:1:5,g::5,m::7,o::4
       as 1 2 77 = ok
       create f/y/z 666 = ok
       stat f/y/z = type=1 mode=664 uid=1 gid=2 nlink=1 size=0 rdev=0:0
       setacl f/y/z access u::6,g::4,o::0 = ok
       mode f/y/z = 640
       getacl f/y/z access = ENODATA
       setacl f/y/z default u::6,g::4,o::0 = EACCES
       setacl e access u::6,g::4,o::0 = EOPNOTSUPP
       setacl c access u::7,u:1:7,g::5,o::0 = EINVAL
       remount
       getacl f/x access = u::6,u:1:5,g::5,m::0,o::0)"},
    {"ListingsMissNothingWhileNamesComeAndGo", R"(
       opendir h f/d = ok
       readdir h 3 = ok
       unlink f/d/n3 = ok
       unlink f/d/n7 = ok
       create f/d/n7 644 = ok
       rename f/d/n8 f/d/z = ok
       create f/d/new 644 = ok
       readdir h 5 = ok
       link f/d/n0 f/d/aa = ok
       rename c f/d/n11 = ok
       closedir h = ok)"},
};

class ScriptTest : public testing::TestWithParam<Case> {};

TEST_P(ScriptTest, Holds) {
  std::vector<Command> script = parse_script(GetParam().script);
  OverlaySubject subject;
  auto failure = run_script(subject, script);
  if (!failure) return;
  std::string at = failure->step < script.size() ? script_text({script[failure->step]}) : "end\n";
  FAIL() << at << failure->what;
}

INSTANTIATE_TEST_SUITE_P(Complaints, ScriptTest, testing::ValuesIn(kCases),
                         [](const auto& info) { return info.param.name; });

}  // namespace
}  // namespace layerfs
