// What loading needs of a manifest, checked: what is read from one is there, and of its type.
#pragma once

#include <algorithm>
#include <map>
#include <set>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "towerspec/json.hpp"

namespace towerspec {

/// What is wrong with a manifest.
struct Malformed {
  std::string why;
};

/// A file that a surface is served from.
struct Made {
  std::string file, sha256;
  std::string cpu;  // what the CPU must have; empty for TorchScript
};

/// What a manifest says of one surface.
struct Entry {
  std::map<std::string, Made> targets;
  json::Value inputs;
  std::vector<std::string> outputs;
};

/// A build's manifest.
struct Manifest {
  static constexpr const char *torchscript = "torchscript", *vocabularies = "vocabularies.json";

  std::vector<std::pair<std::string, Entry>> surfaces;
  std::map<std::string, std::string> files;  // digests by name

  /// The surface's entry, or nullptr.
  const Entry* find(const std::string& surface) const {
    const auto named = [&](const auto& entry) { return entry.first == surface; };
    const auto found = std::find_if(surfaces.begin(), surfaces.end(), named);
    return found == surfaces.end() ? nullptr : &found->second;
  }

  /// The files that a bundle of one target may read.
  std::vector<std::string> files_of(const std::string& target) const {
    std::vector<std::string> names{vocabularies};
    for (const auto& [surface, entry] : surfaces) {
      if (const auto made = entry.targets.find(target); made != entry.targets.end()) names.push_back(made->second.file);
    }
    return names;
  }
};

/// Reads a manifest's text.
class ManifestReader {
 public:
  /// Throws Malformed.
  static Manifest read(std::string_view text) {
    json::Value document;
    try {
      document = json::parse(text);
    } catch (const json::Malformed&) {
      throw Malformed{"its manifest.json is not valid"};
    }
    const auto* format = document.find("format");
    if (format == nullptr || !format->is(Kind::number) || format->text != "1") {
      throw Malformed{"its manifest has a format that this version of towerspec doesn't know"};
    }
    Manifest manifest;
    for (const auto& [name, digest] : need(document, "files", Kind::object, "").members) {
      manifest.files[name] = need(digest, Kind::string, "files." + name).text;
    }
    for (const auto& [name, entry] : need(document, "surfaces", Kind::object, "").members) {
      const auto where = "surfaces." + name;
      manifest.surfaces.emplace_back(name, surface(need(entry, Kind::object, where), where));
    }
    return manifest;
  }

 private:
  using Kind = json::Value::Kind;

  static Entry surface(const json::Value& value, const std::string& where) {
    Entry entry;
    if (const auto* targets = value.find("targets")) {
      for (const auto& [target, made] : need(*targets, Kind::object, where + ".targets").members) {
        const auto at = where + ".targets." + target;
        entry.targets[target] = file(need(made, Kind::object, at), at);
        if (target != Manifest::torchscript) entry.targets[target].cpu = need(made, "cpu", Kind::string, at).text;
      }
    }
    entry.targets[Manifest::torchscript] = file(value, where);
    entry.inputs = need(value, "inputs", Kind::array, where);
    entry.outputs = outputs(need(value, "outputs", Kind::array, where), where + ".outputs");
    return entry;
  }

  static Made file(const json::Value& value, const std::string& where) {
    return {need(value, "file", Kind::string, where).text, need(value, "sha256", Kind::string, where).text, ""};
  }

  static std::vector<std::string> outputs(const json::Value& list, const std::string& where) {
    std::vector<std::string> names;
    for (std::size_t i = 0; i < list.items.size(); ++i) {
      const auto at = where + "[" + std::to_string(i) + "]";
      names.push_back(need(need(list.items[i], Kind::object, at), "name", Kind::string, at).text);
    }
    const std::set<std::string> different(names.begin(), names.end());
    if (different.empty() || different.size() < names.size()) {
      throw Malformed{"in its manifest, `" + where + "` is empty, or has a name twice"};
    }
    return names;
  }

  /// A value that must be of a kind.
  static const json::Value& need(const json::Value& value, Kind kind, const std::string& where) {
    if (value.is(kind)) return value;
    const char* words = kind == Kind::string ? "a text" : kind == Kind::object ? "an object" : "a list";
    throw Malformed{"in its manifest, `" + where + "` is not " + words};
  }

  /// What an object holds under a key, which must be there and of a kind.
  static const json::Value& need(const json::Value& object, const std::string& key, Kind kind, const std::string& where) {
    const auto path = where.empty() ? key : where + "." + key;
    const auto* value = object.find(key);
    if (value == nullptr) throw Malformed{"its manifest has no `" + path + "`"};
    return need(*value, kind, path);
  }
};

}  // namespace towerspec
