// SPDX-License-Identifier: Apache-2.0
#include <fmt/format.h>
#include <unistd.h>

#include "tests/model/script_runner.h"

namespace layerfs {
namespace {

class Snapshot {
 public:
  Snapshot(Overlay& fs, bool exact, std::map<std::string, Ino>* inos)
      : fs_(fs), exact_(exact), inos_(inos) {}

  std::map<std::string, std::string> take() {
    auto root = describe(kRootIno);
    out_["."] = root.ok() ? *root : root.error().message;
    directory(kRootIno, "");
    return std::move(out_);
  }

 private:
  std::string times(const Stat& stat) const {
    const Timestamp& mtime = stat.attributes.mtime;
    // What utimes gave has 7 ns and is long ago.
    if (!exact_) {
      bool given = mtime.nanoseconds == 7 && mtime.seconds < 1000000;
      return given ? fmt::format(" mtime={}", mtime.seconds) : "";
    }
    std::string out = " times";
    for (const Timestamp& time : {stat.atime, mtime, stat.ctime, stat.btime})
      out += fmt::format(" {}.{}", time.seconds, time.nanoseconds);
    return out;
  }

  Result<std::string> describe(Ino ino) {
    Stat stat = TRY(fs_.stat(ino));
    const Attributes& a = stat.attributes;
    bool sized = exact_ || a.type != FileType::directory;
    std::string out =
        fmt::format("type={} mode={:o} uid={} gid={} nlink={} size={} rdev={}:{}{}",
                    static_cast<int>(a.type), a.mode, a.uid, a.gid, a.nlink,
                    sized ? a.size_bytes : 0, a.rdev_major, a.rdev_minor, times(stat));
    auto names = TRY(fs_.list_xattrs(ino));
    std::map<std::string, std::string> xattrs;
    for (const std::string& name : names) xattrs[name] = TRY(fs_.get_xattr(ino, name));
    for (const auto& [name, value] : xattrs) {
      out += fmt::format(" {}={}", name, digest_of(value));
    }
    if (a.type == FileType::symlink) out += " -> " + TRY(fs_.readlink(ino));
    if (a.type != FileType::regular) return out;
    std::string bytes(a.size_bytes + 10, 'x');
    bytes.resize(TRY(fs_.read(ino, 0, bytes)));
    TRY(check_holes(ino, bytes));
    return out + " content=" + digest_of(bytes);
  }

  // What SEEK_HOLE calls a hole must read as zeros.
  Status check_holes(Ino ino, const std::string& bytes) {
    for (uint64_t at = 0; at < bytes.size();) {
      auto data = fs_.seek(ino, at, SEEK_DATA);
      if (!data.ok() && data.error().code != ENXIO) return std::move(data).error();
      uint64_t data_at = data.ok() ? *data : bytes.size();
      if (data_at < at || data_at > bytes.size()) return Error{ERANGE, "SEEK_DATA"};
      if (bytes.find_first_not_of('\0', at) < data_at) return Error{ERANGE, "data in a hole"};
      if (data_at == bytes.size()) break;
      at = TRY(fs_.seek(ino, data_at, SEEK_HOLE));
      if (at <= data_at || at > bytes.size()) return Error{ERANGE, "SEEK_HOLE"};
    }
    return {};
  }

  void directory(Ino ino, const std::string& path) {
    std::vector<std::pair<std::string, Ino>> entries;
    auto status = fs_.list_plus(ino, 0, [&](const DirectoryEntry& entry, const Stat& stat) {
      if (stat.ino != entry.ino || stat.attributes.type != entry.type) {
        out_[path] += "readdir and stat differ: " + std::string(entry.name);
      }
      entries.emplace_back(entry.name, entry.ino);
      return true;
    });
    if (!status.ok()) out_[path] += "list: " + status.error().message;
    for (auto& [name, child] : entries) entry(ino, name, child, path + name);
  }

  void entry(Ino directory_ino, const std::string& name, Ino ino, const std::string& path) {
    auto described = describe(ino);
    std::string text = described.ok() ? *described : "error: " + described.error().message;
    if (!out_.try_emplace(path, text).second) out_[path] += " (listed twice)";
    if (inos_ != nullptr) (*inos_)[path] = ino;
    auto found = fs_.lookup(directory_ino, name);
    if (!found.ok() || found->ino != ino) out_[path] += " (lookup differs)";
    if (found.ok()) fs_.forget(found->ino, 1);
    auto stat = fs_.stat(ino);
    if (stat.ok() && stat->attributes.type == FileType::directory) directory(ino, path + "/");
    fs_.forget(ino, 1);
  }

  Overlay& fs_;
  const bool exact_;
  std::map<std::string, Ino>* inos_;
  std::map<std::string, std::string> out_;
};

}  // namespace

std::map<std::string, std::string> snapshot(Overlay& fs, bool exact,
                                            std::map<std::string, Ino>* inos) {
  return Snapshot(fs, exact, inos).take();
}

}  // namespace layerfs
