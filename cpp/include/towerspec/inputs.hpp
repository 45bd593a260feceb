// A surface's inputs at the boundary: checked as Python checks them, with the same codes and words.
#pragma once

#include <torch/script.h>

#include <algorithm>
#include <cctype>
#include <cstdint>
#include <map>
#include <memory>
#include <string>
#include <string_view>
#include <unordered_map>
#include <utility>
#include <vector>

#include "towerspec/error.hpp"
#include "towerspec/json.hpp"

namespace towerspec {

inline constexpr const char* counts_name = "candidates_per_request";
inline constexpr std::int64_t padding = -1;

using Inputs = std::map<std::string, at::Tensor>;

/// A text as a 64-bit id: FNV-1a of its UTF-8 bytes.
inline std::int64_t text_id(std::string_view text) {
  std::uint64_t found = 0xCBF29CE484222325;
  for (const char c : text) found = (found ^ static_cast<unsigned char>(c)) * 0x100000001B3;
  return static_cast<std::int64_t>(found);
}

/// The rows of a table by raw id; texts stand in it as their `text_id`.
class Vocabulary {
 public:
  /// From a list of whole numbers and texts in row order; all other ids get the row `unknown`.
  Vocabulary(const json::Value& ids, std::int64_t unknown) : unknown_(unknown) {
    for (const auto& id : ids.items) {
      const auto raw = id.is(json::Value::Kind::string) ? text_id(id.text) : id.integer();
      rows_.emplace(raw, static_cast<std::int64_t>(rows_.size()));
    }
  }

  /// The rows of raw ids; -1 stays -1, which is missing.
  at::Tensor look_up(const at::Tensor& ids) const {
    auto rows = ids.to(at::kCPU, at::kLong).contiguous().clone();
    auto* data = rows.data_ptr<std::int64_t>();
    for (std::int64_t i = 0; i < rows.numel(); ++i) {
      if (data[i] == padding) continue;
      const auto found = rows_.find(data[i]);
      data[i] = found == rows_.end() ? unknown_ : found->second;
    }
    return rows.to(ids.device());
  }

 private:
  std::unordered_map<std::int64_t, std::int64_t> rows_;
  std::int64_t unknown_;
};

/// Vocabularies by table, shared by the surfaces of a build.
using Vocabularies = std::map<std::string, std::shared_ptr<const Vocabulary>>;

/// One input of a surface, as the manifest describes it.
struct Input {
  std::string name, kind, level, rows;  // rows: `R`, one a request, or `N`, one a candidate
  bool whole = false;                   // int64; otherwise float32
  bool optional = false;
  std::vector<std::int64_t> sizes;  // of the axes after the first
  bool ranged = false;
  std::int64_t low = 0, high = 0;                       // ids with a row of their own
  std::unordered_map<std::string, std::int64_t> values;  // ids by text
  bool hashed = false;                                   // any 64-bit id has a row
  std::shared_ptr<const Vocabulary> vocabulary;          // raw ids' rows, if the build knows them

  static Input from(const json::Value& entry, const Vocabularies& vocabularies = {}) {
    Input input;
    input.name = entry.at("name").text;
    input.kind = entry.at("kind").text;
    input.level = entry.at("level").text;
    input.whole = entry.at("dtype").text == "int64";
    const auto& shape = entry.at("shape").items;
    input.rows = shape.at(0).text;
    for (std::size_t i = 1; i < shape.size(); ++i) input.sizes.push_back(shape[i].integer());
    if (const auto* optional = entry.find("optional")) input.optional = optional->truth;
    if (const auto* range = entry.find("range")) {
      input.ranged = true;
      input.low = range->items.at(0).integer();
      input.high = range->items.at(1).integer();
    }
    if (const auto* values = entry.find("values")) {
      for (const auto& value : values->items) {
        input.values.emplace(value.text, static_cast<std::int64_t>(input.values.size()));
      }
    }
    if (const auto* ids = entry.find("ids")) input.hashed = ids->text == "hash";
    if (const auto* table = entry.find("vocabulary")) input.vocabulary = vocabularies.at(table->text);
    return input;
  }

  /// Whether it takes any 64-bit id, and any text.
  bool takes_any() const { return hashed || vocabulary != nullptr; }

  std::string shape() const {
    std::string text = "[" + rows;
    for (const auto size : sizes) text += ", " + std::to_string(size);
    return text + "]";
  }

  std::string wanted() const {
    return std::string("give ") + (whole ? "int64" : "float32") + " of shape " + shape() +
           (rows == "R" ? ", one row a request" : ", one row a candidate");
  }

  at::ScalarType dtype() const { return whole ? at::kLong : at::kFloat; }
};

/// Checks a call's inputs and brings them into call order.
class Boundary {
 public:
  Boundary() = default;
  Boundary(std::string surface, std::vector<Input> inputs) : surface_(std::move(surface)), inputs_(std::move(inputs)) {}

  const std::vector<Input>& inputs() const { return inputs_; }

  /// The tensors in call order. With `strict`, an id without a row of its own and a number that is not finite are
  /// errors; without it they take the meaning that the spec gives them. Throws Error, T702 to T707.
  std::vector<at::Tensor> prepare(const Inputs& given, bool strict) const {
    check_names(given);
    std::map<std::string, at::Tensor> ready;
    for (const auto& input : inputs_) {
      const auto found = given.find(input.name);
      if (found != given.end()) ready[input.name] = checked(input, found->second);
    }
    check_rows(ready);
    std::vector<at::Tensor> ordered;
    for (const auto& input : inputs_) {
      const auto found = ready.find(input.name);
      if (found == ready.end()) continue;
      if (strict) check_values(input, found->second);
      ordered.push_back(found->second);
    }
    return ordered;
  }

  Error fail(const std::string& code, const std::string& message, const std::vector<std::string>& notes = {},
             const std::string& help = "") const {
    return Error(code, "surface `" + surface_ + "`: " + message, notes, help);
  }

 private:
  void check_names(const Inputs& given) const {
    std::vector<std::string> known;
    for (const auto& input : inputs_) known.push_back(input.name);
    const std::string all = "its inputs are " + listing(known);
    for (const auto& [name, tensor] : given) {
      if (std::find(known.begin(), known.end(), name) == known.end()) {
        throw fail("T703", "there is no input `" + name + "`", {all});
      }
    }
    for (const auto& input : inputs_) {
      if (!input.optional && given.count(input.name) == 0) {
        throw fail("T702", "the input `" + input.name + "` is missing", {all});
      }
    }
  }

  at::Tensor checked(const Input& input, const at::Tensor& x) const {
    const bool wrong = input.whole && !at::isIntegralType(x.scalar_type(), false) && x.numel() > 0;
    if (wrong || x.scalar_type() == at::kBool || x.is_complex()) {
      throw fail("T704", "the input `" + input.name + "` has the type " + type_name(x.scalar_type()),
                 {std::string("it takes ") + (input.whole ? "whole numbers" : "numbers")}, input.wanted());
    }
    const auto sizes = x.sizes().vec();
    if (sizes.empty() || std::vector<std::int64_t>(sizes.begin() + 1, sizes.end()) != input.sizes) {
      std::string shape;
      for (const auto size : sizes) shape += (shape.empty() ? "" : ", ") + std::to_string(size);
      throw fail("T705", "the input `" + input.name + "` has the shape [" + shape + "]",
                 {"it takes " + input.shape()}, input.wanted());
    }
    const auto ready = x.to(input.dtype()).contiguous();
    return input.vocabulary ? input.vocabulary->look_up(ready) : ready;
  }

  static std::string type_name(at::ScalarType type) {
    switch (type) {
      case at::kFloat: return "float32";
      case at::kDouble: return "float64";
      case at::kHalf: return "float16";
      case at::kBool: return "bool";
      default: {
        std::string name = at::toString(type);
        for (auto& c : name) c = static_cast<char>(std::tolower(c));
        return name;
      }
    }
  }

  void check_rows(const std::map<std::string, at::Tensor>& ready) const {
    std::map<std::string, std::pair<std::string, std::int64_t>> first;  // by row axis: the first input, its rows
    for (const auto& input : inputs_) {
      const auto found = ready.find(input.name);
      if (found == ready.end()) continue;
      const auto rows = found->second.size(0);
      const auto& [name, count] = first.emplace(input.rows, std::pair(input.name, rows)).first->second;
      if (rows != count) {
        throw fail("T706", "the input `" + input.name + "` has " + counted(rows) + ", and `" + name + "` has " +
                               counted(count),
                   {"inputs of one level have one row for each " + input.level});
      }
    }
    if (first.count("R") && first.count("N")) check_counts(ready, first["R"].second, first["N"].second);
  }

  static std::string counted(std::int64_t rows) { return std::to_string(rows) + (rows == 1 ? " row" : " rows"); }

  void check_counts(const std::map<std::string, at::Tensor>& ready, std::int64_t r, std::int64_t n) const {
    const auto counts = ready.find(counts_name);
    const std::string candidates = std::to_string(n) + " candidates";
    if (r == 0 && n > 0) throw fail("T706", "there are " + candidates + " and no request");
    if (counts == ready.end()) {
      if (r == 1 || r == n) return;
      throw fail("T706", std::to_string(r) + " requests have " + candidates + ", and nothing says which belong to which",
                 {}, std::string("give `") + counts_name + "`, the number of candidates of each request");
    }
    if (r == 1) return;
    const auto sum = counts->second.sum().item<std::int64_t>();
    if (sum != n || counts->second.lt(0).any().item<bool>()) {
      throw fail("T706", std::string("`") + counts_name + "` adds up to " + std::to_string(sum) + ", and there are " +
                             candidates);
    }
  }

  void check_values(const Input& input, const at::Tensor& x) const {
    const auto low = input.kind == "category" ? input.low : padding;
    if (!input.whole) {
      const auto bad = at::nonzero(at::logical_not(at::isfinite(x)));
      if (bad.size(0) == 0) return;
      throw fail("T707", "the input `" + input.name + "` is not finite in row " + row(bad));
    }
    if (!input.ranged) return;
    const auto bad = at::nonzero(at::logical_or(x.lt(low), x.gt(input.high)));
    if (bad.size(0) == 0) return;
    throw fail("T707", "the input `" + input.name + "` has an id out of range in row " + row(bad),
               {"ids go from " + std::to_string(input.low) + " to " + std::to_string(input.high)});
  }

  static std::string row(const at::Tensor& bad) { return std::to_string(bad[0][0].item<std::int64_t>()); }

  std::string surface_;
  std::vector<Input> inputs_;
};

}  // namespace towerspec
