// Loads a build of towerspec and serves its surfaces, on libtorch alone.
//
//   towerspec::Bundle bundle("build/ads_engagement");  // or ("build/ads_engagement", at::kCPU, "aoti")
//   towerspec::Surface search = bundle.surface("search");
//   for (auto& [head, scores] : search({{"pin_id", pin_ids}, {"country", country}, ...})) { ... }
#pragma once

#include <torch/script.h>

#include <filesystem>
#include <fstream>
#include <memory>
#include <sstream>
#include <string>
#include <system_error>
#include <utility>
#include <vector>

#include "towerspec/error.hpp"
#include "towerspec/inputs.hpp"
#include "towerspec/json.hpp"
#include "towerspec/targets.hpp"

namespace towerspec {

/// Predictions by head in the manifest's order: `[N]`, or `[N, classes]`, calibrated.
using Outputs = std::vector<std::pair<std::string, at::Tensor>>;

/// A file's whole content. Throws Error with the given code where it can't be read.
inline std::string read_file(const std::filesystem::path& path, const std::string& code) {
  std::ifstream file(path, std::ios::binary);
  std::ostringstream content;
  std::error_code none;
  const bool there = file && std::filesystem::is_regular_file(path, none);
  // To copy no bytes at all is a failure to a stream.
  if (!there || (file.peek() != std::ifstream::traits_type::eof() && !(content << file.rdbuf()))) {
    throw Error(code, "`" + path.string() + "` can't be read");
  }
  return std::move(content).str();
}

/// One surface of a build. A call changes nothing in it: several threads may share one.
class Surface {
 public:
  Surface(std::string name, const json::Value& entry, std::vector<Input> inputs, Compute compute,
          at::Device device = at::kCPU)
      : compute_(std::move(compute)), boundary_(std::move(name), std::move(inputs), device) {
    for (const auto& output : entry.at("outputs").items) outputs_.push_back(output.at("name").text);
  }

  /// The inputs in call order.
  const std::vector<Input>& inputs() const { return boundary_.inputs(); }

  /// What checks a call's inputs.
  const Boundary& boundary() const { return boundary_; }

  /// The names of the outputs, in order.
  const std::vector<std::string>& outputs() const { return outputs_; }

  /// The predictions for inputs by name. Throws Error, T702 to T706, and T707 if strict.
  Outputs operator()(const Inputs& inputs, bool strict = false) const {
    const c10::InferenceMode inference;
    const auto results = compute_(boundary_.prepare(inputs, strict));
    Outputs named;
    for (std::size_t i = 0; i < outputs_.size(); ++i) named.emplace_back(outputs_[i], results.at(i));
    return named;
  }

 private:
  Compute compute_;
  Boundary boundary_;
  std::vector<std::string> outputs_;
};

/// A build folder. Surfaces loaded from one share the weights that are the same in them.
class Bundle {
 public:
  /// Reads the manifest; a surface is loaded when it is asked for. The target is `torchscript`, or `aoti` where the
  /// build has it. Throws Error, T701.
  explicit Bundle(std::filesystem::path folder, at::Device device = at::kCPU, std::string target = "torchscript")
      : folder_(std::move(folder)), device_(device), target_(std::move(target)) {
    const auto path = folder_ / "manifest.json";
    if (!std::filesystem::is_regular_file(path)) throw no_build("it has no manifest.json");
    try {
      manifest_ = json::parse(read_file(path, "T701"));
    } catch (const json::Malformed&) {
      throw no_build("its manifest.json is not valid");
    }
    const auto* format = manifest_.find("format");
    if (format == nullptr || format->text != "1") {
      throw no_build("its manifest has a format that this version of towerspec doesn't know");
    }
  }

  /// The names of the surfaces.
  std::vector<std::string> surfaces() const {
    std::vector<std::string> names;
    for (const auto& [name, entry] : manifest_.at("surfaces").members) names.push_back(name);
    return names;
  }

  /// One surface, loaded. Throws Error, T701.
  Surface surface(const std::string& name) const {
    const auto* entry = manifest_.at("surfaces").find(name);
    if (entry == nullptr) {
      throw Error("T701", "there is no surface `" + name + "` in this build", {"it has " + listing(surfaces())});
    }
    auto inputs = read_entries(name, entry->find("inputs"));
    const auto known = vocabularies(*entry);
    for (auto& input : inputs) {
      if (!input.table.empty()) input.vocabulary = known.at(input.table);
    }
    auto compute = target_ == "torchscript" ? script(*entry) : package(*entry, inputs);
    return Surface(name, *entry, std::move(inputs), std::move(compute), device_);
  }

 private:
  Compute script(const json::Value& entry) const {
    const auto file = file_of(entry);
    try {
      return load_script(file, device_, *pool_);
    } catch (const c10::Error& error) {
      throw no_build("`" + file.filename().string() + "` is no TorchScript file: " + error.what_without_backtrace());
    }
  }

  Compute package(const json::Value& entry, const std::vector<Input>& inputs) const {
    const auto* targets = entry.find("targets");
    const auto* made = targets == nullptr ? nullptr : targets->find(target_);
    if (made == nullptr) throw no_build("it has no target `" + target_ + "`");
    const auto file = file_of(*made);
    const auto name = "`" + file.filename().string() + "`";
    const auto& cpu = made->at("cpu").text;
    if (!device_.is_cpu()) throw no_build(name + " was compiled for the CPU, not for `" + device_.str() + "`");
    if (!runs_here(cpu)) {
      throw no_build(name + " was compiled for " + cpu + ", and this machine's CPU has " + at::get_cpu_capability());
    }
    try {
      return load_package(file, inputs);
    } catch (const std::runtime_error& error) {
      throw no_build(name + " can't be loaded: " + error.what());
    } catch (const c10::Error& error) {
      throw no_build(name + " can't be loaded: " + error.what_without_backtrace());
    }
  }

  std::filesystem::path file_of(const json::Value& entry) const {
    auto file = folder_ / entry.at("file").text;
    if (!std::filesystem::is_regular_file(file)) throw no_build("`" + file.filename().string() + "` can't be read");
    return file;
  }

  /// The vocabularies that a surface's inputs name.
  Vocabularies vocabularies(const json::Value& entry) const {
    Vocabularies found;
    json::Value file;
    for (const auto& input : entry.at("inputs").items) {
      const auto* table = input.find("vocabulary");
      if (table == nullptr || found.count(table->text) > 0) continue;
      if (file.members.empty()) file = json::parse(read_file(folder_ / "vocabularies.json", "T701"));
      const auto unknown = input.at("range").items.at(1).integer() + 1;
      found[table->text] = std::make_shared<const Vocabulary>(file.at(table->text), unknown);
    }
    return found;
  }

  Error no_build(const std::string& why) const {
    return Error("T701", "`" + folder_.string() + "` holds no usable build: " + why, {},
                 "make one with `towerspec compile`");
  }

  std::filesystem::path folder_;
  at::Device device_;
  std::string target_;
  json::Value manifest_;
  std::shared_ptr<Pool> pool_ = std::make_shared<Pool>();
};

}  // namespace towerspec
