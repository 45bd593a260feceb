// Loads a build of towerspec and serves its surfaces, on libtorch alone.
//
//   towerspec::Bundle bundle("build/ads_engagement");  // or ("build/ads_engagement", at::kCPU, "aoti")
//   towerspec::Surface search = bundle.surface("search");
//   for (auto& [head, scores] : search({{"pin_id", pin_ids}, {"country", country}, ...})) { ... }
#pragma once

#include <torch/script.h>

#include <exception>
#include <filesystem>
#include <fstream>
#include <map>
#include <memory>
#include <sstream>
#include <string>
#include <system_error>
#include <tuple>
#include <utility>
#include <vector>

#include "towerspec/error.hpp"
#include "towerspec/inputs.hpp"
#include "towerspec/json.hpp"
#include "towerspec/manifest.hpp"
#include "towerspec/pinned.hpp"
#include "towerspec/statistics.hpp"
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

/// One surface of a build. A call changes nothing in it but its statistics: several threads may share one.
class Surface {
 public:
  Surface(std::string name, std::vector<std::string> outputs, std::vector<Input> inputs, Compute compute,
          at::Device device = at::kCPU)
      : name_(std::move(name)),
        compute_(std::move(compute)),
        boundary_(name_, std::move(inputs), device),
        outputs_(std::move(outputs)) {}

  /// The inputs in call order.
  const std::vector<Input>& inputs() const { return boundary_.inputs(); }

  /// What checks a call's inputs.
  const Boundary& boundary() const { return boundary_; }

  /// How many ids were known, unknown and missing, by input: of the first 100 calls, then of one in 16. Copies of a
  /// surface count together.
  std::map<std::string, Seen> statistics() const { return statistics_->seen(); }

  /// The names of the outputs, in order.
  const std::vector<std::string>& outputs() const { return outputs_; }

  /// The predictions for inputs by name, each contiguous and in memory of its own. Throws Error: T702 to T706, T707 if
  /// strict, and T708 where the graph itself fails.
  Outputs operator()(const Inputs& inputs, bool strict = false) const {
    const c10::InferenceMode inference;
    auto tensors = boundary_.prepare(inputs, strict);
    statistics_->add(boundary_.inputs(), tensors);
    const auto results = computed(std::move(tensors));
    Outputs named;
    for (std::size_t i = 0; i < outputs_.size(); ++i) named.emplace_back(outputs_[i], results.at(i));
    return named;
  }

 private:
  std::vector<at::Tensor> computed(std::vector<at::Tensor> tensors) const {
    try {
      return compute_(std::move(tensors));
    } catch (const std::exception& error) {  // whatever libtorch or a custom operator throws
      throw Error("T708", "surface `" + name_ + "`: its graph failed", {said(error)});
    }
  }

  std::string name_;
  Compute compute_;
  Boundary boundary_;
  std::vector<std::string> outputs_;
  std::shared_ptr<Statistics> statistics_ = std::make_shared<Statistics>();
};

/// A build folder. Surfaces loaded from one share the weights that are the same in them.
///
/// It is one build for as long as it lives: its files are opened together, and what becomes of the folder, which a
/// compile may replace or anyone delete, changes none of them. They are code and run as such: load what you, or those
/// you trust, have compiled.
class Bundle {
 public:
  /// Opens the files; a surface is loaded when it is asked for. The target is `torchscript`, or `aoti` where the build
  /// has it. Throws Error, T701.
  explicit Bundle(std::filesystem::path folder, at::Device device = at::kCPU, std::string target = Manifest::torchscript)
      : device_(device), target_(std::move(target)) {
    const auto names = [&](const Manifest& manifest) { return manifest.files_of(target_); };
    try {
      std::tie(manifest_, files_) = pin(folder, ManifestReader::read, names);
    } catch (const Malformed& error) {
      throw towerspec::no_build(folder, error.why);
    }
  }

  /// The names of the surfaces.
  std::vector<std::string> surfaces() const {
    std::vector<std::string> names;
    for (const auto& [name, entry] : manifest_.surfaces) names.push_back(name);
    return names;
  }

  /// One surface, loaded. Throws Error, T701.
  Surface surface(const std::string& name) const {
    const auto* entry = manifest_.find(name);
    if (entry == nullptr) {
      throw Error("T701", "there is no surface `" + name + "` in this build", {"it has " + listing(surfaces())});
    }
    const auto found = entry->targets.find(target_);
    if (found == entry->targets.end()) throw no_build("it has no target `" + target_ + "`");
    auto inputs = inputs_of(name, *entry);
    auto compute = load(found->second, {inputs.size(), entry->outputs.size()}, inputs);
    return Surface(name, entry->outputs, std::move(inputs), std::move(compute), device_);
  }

 private:
  Compute load(const Made& made, const Signature& signature, const std::vector<Input>& inputs) const {
    const auto content = files_->read(made.file, made.sha256);
    const bool script = target_ == Manifest::torchscript;
    if (!script) check_cpu(made);
    try {
      return script ? load_script(content.bytes(), signature, device_, *pool_)
                    : load_package(content.bytes(), signature, inputs);
    } catch (const std::exception& error) {  // libtorch has many kinds for what it can't load
      throw no_build("`" + made.file + "` can't be loaded: " + said(error));
    }
  }

  void check_cpu(const Made& made) const {
    const auto name = "`" + made.file + "`";
    if (!device_.is_cpu()) throw no_build(name + " was compiled for the CPU, not for `" + device_.str() + "`");
    if (!runs_here(made.cpu)) {
      throw no_build(name + " was compiled for " + made.cpu + ", and this machine's CPU has " + at::get_cpu_capability());
    }
  }

  std::vector<Input> inputs_of(const std::string& surface, const Entry& entry) const {
    try {
      auto inputs = read_entries(surface, &entry.inputs);
      const auto known = vocabularies(entry);
      for (auto& input : inputs) {
        if (!input.table.empty()) input.vocabulary = known.at(input.table);
      }
      return inputs;
    } catch (const Error&) {
      throw;
    } catch (const std::exception& error) {  // a vocabulary that lacks what the manifest names, among others
      throw no_build("its manifest describes the inputs of `" + surface + "` wrongly: " + error.what());
    }
  }

  /// The vocabularies that a surface's inputs name.
  Vocabularies vocabularies(const Entry& entry) const {
    Vocabularies found;
    json::Value file;
    for (const auto& input : entry.inputs.items) {
      const auto* table = input.find("vocabulary");
      if (table == nullptr || found.count(table->text) > 0) continue;
      if (file.members.empty()) {
        const auto digest = manifest_.files.find(Manifest::vocabularies);
        const auto content = files_->read(Manifest::vocabularies, digest == manifest_.files.end() ? "" : digest->second);
        file = json::parse(content.bytes());
      }
      const auto unknown = input.at("range").items.at(1).integer() + 1;
      found[table->text] = std::make_shared<const Vocabulary>(file.at(table->text), unknown);
    }
    return found;
  }

  Error no_build(const std::string& why) const { return towerspec::no_build(files_->folder(), why); }

  at::Device device_;
  std::string target_;
  Manifest manifest_;
  std::shared_ptr<const Pinned> files_;
  std::shared_ptr<Pool> pool_ = std::make_shared<Pool>();
};

}  // namespace towerspec
