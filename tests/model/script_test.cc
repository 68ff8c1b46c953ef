// SPDX-License-Identifier: Apache-2.0
//
// Scripts for what other overlay filesystems got wrong, run beside the model (script.h has the
// language). The lower is model_lower():
//   a/ a/b/ (02775) a/b/c/ b/   a/a = b/f "small" (04755)   a/b/d = d 100000 x   a/b/c/e "deep"
//   b/a 40000 y (02644)   b/e 17000 z (user.a, security.capability)   c empty   e -> a/b   b/c 0:0
#include <gtest/gtest.h>

#include "tests/model/driver.h"

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
       nlink . = 3
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
       write a/a 0 1 1 kill = ok
       mode a/a = 755
       getxattr b/e security.capability = cap
       truncate b/e 5 = ok
       getxattr b/e security.capability = ENODATA
       getxattr b/e user.a = 1
       chmod b/e 6755 = ok
       chown b/e 5 5 = ok
       mode b/e = 755
       write b/a 0 1 1 kill = ok
       mode b/a = 2644
       chmod b/e 6755 = ok
       fallocate b/e punch 0 1 = ok
       mode b/e = 755)"},
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
};

class ScriptTest : public testing::TestWithParam<Case> {};

TEST_P(ScriptTest, Holds) {
  auto lower = model_lower();
  std::vector<Command> script = parse_script(GetParam().script);
  auto failure = run_script(*lower, script);
  if (!failure) return;
  std::string at = failure->step < script.size() ? script_text({script[failure->step]}) : "end\n";
  FAIL() << at << failure->what;
}

INSTANTIATE_TEST_SUITE_P(Complaints, ScriptTest, testing::ValuesIn(kCases),
                         [](const auto& info) { return info.param.name; });

}  // namespace
}  // namespace layerfs
