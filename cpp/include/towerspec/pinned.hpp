// A build's files, pinned: they stay as they were opened, whatever becomes of the folder.
#pragma once

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstdio>
#include <cstring>
#include <filesystem>
#include <map>
#include <memory>
#include <string>
#include <string_view>
#include <utility>
#include <variant>
#include <vector>

#include "towerspec/error.hpp"
#include "towerspec/sha256.hpp"

namespace towerspec {

/// The error of a folder that holds no usable build, T701.
inline Error no_build(const std::filesystem::path& folder, const std::string& why,
                      const std::string& help = "make one with `towerspec compile`") {
  return Error("T701", "`" + folder.string() + "` holds no usable build: " + why, {}, help);
}

/// Why a file of a build can't be read.
struct Unreadable {
  std::string why;
  bool missing = false;
};

/// A descriptor, closed at the end.
class Descriptor {
 public:
  explicit Descriptor(int number = -1) : number_(number) {}
  Descriptor(Descriptor&& other) noexcept : number_(std::exchange(other.number_, -1)) {}
  Descriptor& operator=(Descriptor&& other) noexcept {
    std::swap(number_, other.number_);
    return *this;
  }
  ~Descriptor() {
    if (number_ >= 0) ::close(number_);
  }

  int number() const { return number_; }
  bool open() const { return number_ >= 0; }

 private:
  int number_;
};

/// A file's bytes, mapped: they outlive its name, and take neither a descriptor nor memory until they are read.
class Mapped {
 public:
  /// Throws Unreadable.
  explicit Mapped(const Descriptor& file) {
    struct stat status {};
    if (::fstat(file.number(), &status) != 0) throw Unreadable{std::strerror(errno)};
    size_ = static_cast<std::size_t>(status.st_size);
    if (size_ == 0) return;
    data_ = ::mmap(nullptr, size_, PROT_READ, MAP_SHARED, file.number(), 0);
    if (data_ == MAP_FAILED) throw Unreadable{std::strerror(errno)};
  }
  Mapped(Mapped&& other) noexcept : data_(std::exchange(other.data_, nullptr)), size_(std::exchange(other.size_, 0)) {}
  Mapped& operator=(Mapped&& other) noexcept {
    std::swap(data_, other.data_);
    std::swap(size_, other.size_);
    return *this;
  }
  ~Mapped() {
    if (size_ > 0) ::munmap(data_, size_);
  }

  std::string_view bytes() const { return {static_cast<const char*>(data_), size_}; }

  /// A copy that no one can change. The system makes it and not this process, which would end with SIGBUS where the file
  /// was cut short. Throws Unreadable.
  Mapped copy() const {
    const Descriptor file = nameless();
    for (auto rest = bytes(); !rest.empty();) {
      const auto done = ::write(file.number(), rest.data(), std::min(rest.size(), std::size_t{1} << 28));
      if (done < 0 && errno != EINTR) throw Unreadable{std::strerror(errno)};
      rest.remove_prefix(static_cast<std::size_t>(std::max<ssize_t>(done, 0)));
    }
    return Mapped(file);
  }

 private:
  /// A file without a name, in memory where the system has such.
  static Descriptor nameless() {
#ifdef __linux__
    Descriptor file(::memfd_create("towerspec", MFD_CLOEXEC));
#else
    char path[] = "/tmp/towerspec-XXXXXX";
    Descriptor file(::mkstemp(path));
    if (file.open()) ::unlink(path);
#endif
    if (!file.open()) throw Unreadable{std::strerror(errno)};
    return file;
  }

  void* data_ = nullptr;
  std::size_t size_ = 0;
};

/// An open folder: its files are found beneath it alone, also when another folder has taken its path.
class Folder {
 public:
  explicit Folder(std::filesystem::path path) : path_(std::move(path)) {
    folders_.emplace("", Descriptor(::open(path_.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC)));
  }

  /// Whether there is a folder at the path.
  bool open() const { return folders_.at("").open(); }

  /// A regular file by its path within the folder, which no link is part of. Throws Unreadable.
  Mapped map(const std::string& name) {
    const auto parts = split(name);
    const auto quoted = "`" + name + "`";
    const auto leaves = [](const std::string& part) { return part.empty() || part == "." || part == ".."; };
    if (name.find('\0') != std::string::npos) throw Unreadable{"`" + std::string(name.c_str()) + "…` can't be read"};
    if (std::any_of(parts.begin(), parts.end(), leaves)) throw Unreadable{quoted + " is no path within the build"};
    const Descriptor file(::openat(within(parts), parts.back().c_str(), flags));
    if (!file.open()) throw Unreadable{quoted + " " + why(parts), errno == ENOENT};
    struct stat status {};
    if (::fstat(file.number(), &status) != 0 || !S_ISREG(status.st_mode)) {
      throw Unreadable{quoted + " is no regular file"};
    }
    try {
      return Mapped(file);
    } catch (const Unreadable&) {
      throw Unreadable{quoted + " can't be read"};
    }
  }

  /// Whether another folder, or none, is at the path by now.
  bool replaced() const {
    struct stat here {}, there {};
    return ::fstat(folders_.at("").number(), &here) != 0 || ::stat(path_.c_str(), &there) != 0 ||
           here.st_dev != there.st_dev || here.st_ino != there.st_ino;
  }

 private:
  static constexpr int flags = O_RDONLY | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK;  // a pipe would wait for its other end

  static std::vector<std::string> split(const std::string& name) {
    std::vector<std::string> parts(1);
    for (const char c : name) {
      if (c == '/') parts.emplace_back();
      else parts.back() += c;
    }
    return parts;
  }

  /// The folder that the last part lies in; -1 where there is none, which `openat` refuses.
  int within(const std::vector<std::string>& parts) {
    std::string at;
    for (std::size_t i = 0; i + 1 < parts.size(); ++i) {
      const int above = folders_.at(at).number();
      at += "/" + parts[i];
      if (folders_.count(at) == 0) {
        Descriptor folder(::openat(above, parts[i].c_str(), flags | O_DIRECTORY));
        if (!folder.open()) return -1;
        folders_.emplace(at, std::move(folder));
      }
    }
    return folders_.at(at).number();
  }

  /// Without the system's words for a link, which speak of loops, or of what is no folder.
  std::string why(const std::vector<std::string>& parts) const {
    const int number = errno;
    auto path = path_;
    bool link = false;
    std::error_code none;
    for (const auto& part : parts) link = link || std::filesystem::is_symlink(path /= part, none);
    errno = number;
    return link ? "is or lies behind a link, and a build's files are its own" : "can't be read";
  }

  std::filesystem::path path_;
  std::map<std::string, Descriptor> folders_;
};

/// The files of one build, held as they were when it was opened.
class Pinned {
 public:
  Pinned(std::filesystem::path folder, Folder& opened, const std::vector<std::string>& names)
      : folder_(std::move(folder)) {
    for (const auto& name : names) {
      try {
        files_.insert_or_assign(name, opened.map(name));
      } catch (const Unreadable& error) {
        files_.insert_or_assign(name, error);
      }
    }
  }

  const std::filesystem::path& folder() const { return folder_; }

  /// Whether every file could be opened.
  bool whole() const {
    const auto open = [](const auto& file) { return std::holds_alternative<Mapped>(file.second); };
    return std::all_of(files_.begin(), files_.end(), open);
  }

  /// A copy of a file's bytes, if they are those that the manifest names. Throws Error, T701.
  Mapped read(const std::string& name, const std::string& digest) const {
    const auto& file = files_.at(name);
    if (const auto* error = std::get_if<Unreadable>(&file)) throw no_build(folder_, error->why);
    try {
      auto content = std::get<Mapped>(file).copy();
      if (sha256(content.bytes()) == digest) return content;
    } catch (const Unreadable& error) {
      throw no_build(folder_, "`" + name + "` can't be read: " + error.why);
    }
    throw no_build(folder_, "`" + name + "` is not the file that the manifest names");
  }

 private:
  std::filesystem::path folder_;
  std::map<std::string, std::variant<Mapped, Unreadable>> files_;
};

/// A build's manifest, as `parse` reads its text, and the files that `names` finds in it, all of one build.
///
/// A build that is replaced meanwhile loses its files: then the one in its place is opened. A file that can't be opened
/// is no error until it is read. Throws Error, T701, and what `parse` throws.
template <class Parse, class Names>
auto pin(const std::filesystem::path& folder, const Parse& parse, const Names& names) {
  static constexpr int tries = 100;
  for (int i = 0; i < tries; ++i) {
    Folder opened(folder);
    if (!opened.open()) throw no_build(folder, "it has no manifest.json");
    try {
      const auto content = opened.map("manifest.json").copy();
      auto manifest = parse(content.bytes());
      auto files = std::make_shared<const Pinned>(folder, opened, names(manifest));
      if (files->whole() || !opened.replaced()) return std::pair(std::move(manifest), std::move(files));
    } catch (const Unreadable& error) {
      if (!opened.replaced()) throw no_build(folder, error.missing ? "it has no manifest.json" : error.why);
    }
  }
  throw no_build(folder, "it was replaced " + std::to_string(tries) + " times while it was opened", "load it again");
}

}  // namespace towerspec
