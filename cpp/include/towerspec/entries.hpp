// A surface's inputs as its manifest describes them, checked before anything relies on them.
#pragma once

#include <ATen/ATen.h>

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <set>
#include <string>
#include <unordered_map>
#include <utility>
#include <vector>

#include "towerspec/error.hpp"
#include "towerspec/json.hpp"
#include "towerspec/vocabulary.hpp"

namespace towerspec {

inline constexpr const char* counts_name = "candidates_per_request";

/// One input of a surface, as the manifest describes it.
struct Input {
  std::string name, kind, level, rows;  // rows: `R`, one a request, or `N`, one a candidate
  bool whole = false;                   // int64; otherwise float32
  bool optional = false;
  std::vector<std::int64_t> sizes;  // of the axes after the first
  bool ranged = false;
  std::int64_t low = 0, high = 0;                        // ids with a row of their own
  std::unordered_map<std::string, std::int64_t> values;  // ids by text
  bool by_value = false;                                 // a number is one of the values, not the place of one
  bool hashed = false;                                   // any 64-bit id has a row
  std::string table;                                     // whose raw ids the build knows
  std::shared_ptr<const Vocabulary> vocabulary;          // the rows of raw ids

  /// Whether a row is a list of ids.
  bool listed() const { return whole && sizes.size() == 1; }

  /// Whether it counts candidates.
  bool counts() const { return kind == "counts"; }

  /// Whether it takes any 64-bit id, and any text.
  bool takes_any() const { return hashed || !table.empty(); }

  /// Whether it takes raw ids, which are looked up before the graph is called.
  bool raw() const { return by_value || !table.empty(); }

  bool takes_texts() const { return takes_any() || by_value || !values.empty(); }

  /// What a value may be, in words.
  std::string takes() const {
    if (!whole) return "numbers";
    return takes_texts() ? "whole numbers or texts" : "whole numbers";
  }

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

/// Reads a manifest's list of inputs; see `read_entries`.
class Entries {
 public:
  explicit Entries(std::string surface) : surface_(std::move(surface)) {}

  std::vector<Input> read(const json::Value* entries) const {
    if (entries == nullptr || !entries->is(Kind::array)) throw wrong("they are no list");
    std::vector<Input> inputs;
    for (const auto& entry : entries->items) inputs.push_back(input(inputs.size(), entry));
    check_together(inputs);
    return inputs;
  }

 private:
  using Kind = json::Value::Kind;

  Error wrong(const std::string& why) const {
    return Error("T701", "surface `" + surface_ + "`: the manifest describes its inputs wrongly: " + why, {},
                 "make the build anew with `towerspec compile`");
  }

  void require(bool fine, const std::string& name, const std::string& why) const {
    if (!fine) throw wrong("`" + name + "` " + why);
  }

  /// A member that says something: not there and null are alike.
  static const json::Value* said(const json::Value& entry, const char* key) {
    const auto* found = entry.find(key);
    return found == nullptr || found->is(Kind::null) ? nullptr : found;
  }

  static std::string text(const json::Value& entry, const char* key) {
    const auto* found = entry.find(key);
    return found != nullptr && found->is(Kind::string) ? found->text : "";
  }

  Input input(std::size_t at, const json::Value& entry) const {
    const auto place = "entry " + std::to_string(at);
    if (!entry.is(Kind::object)) throw wrong(place + " is no object");
    Input input;
    input.name = text(entry, "name");
    if (input.name.empty()) throw wrong(place + " has no name");
    const auto& name = input.name;
    const auto* kind = said(entry, "kind");
    require(kind != nullptr && kind->is(Kind::string), name, "has no kind");
    input.kind = kind->text;
    input.level = text(entry, "level");
    require(input.level == "request" || input.level == "candidate", name,
            "has a level that is not `request` or `candidate`");
    const auto dtype = text(entry, "dtype");
    require(dtype == "int64" || dtype == "float32", name, "has a dtype that is not `int64` or `float32`");
    input.whole = dtype == "int64";
    input.rows = input.level == "request" ? "R" : "N";
    require(read_shape(said(entry, "shape"), input), name,
            "has a shape that is not `" + input.rows + "` and sizes from 1 up");
    const auto axes = input.sizes.size() + 1;
    require(fits(input, axes), name, "has the kind `" + input.kind + "`, and " + dtype + " of " + std::to_string(axes) +
                                         (axes == 1 ? " axis" : " axes"));
    if (const auto* optional = entry.find("optional")) {
      require(optional->is(Kind::boolean), name, "has an `optional` that is not true or false");
      input.optional = optional->truth;
    }
    read_ids(entry, input);
    return input;
  }

  static bool read_shape(const json::Value* shape, Input& input) {
    static constexpr std::int64_t largest = 2147483647;  // numbers or ids that a row may have
    if (shape == nullptr || !shape->is(Kind::array) || shape->items.empty()) return false;
    if (!shape->items[0].is(Kind::string) || shape->items[0].text != input.rows) return false;
    std::int64_t all = 1;
    for (std::size_t i = 1; i < shape->items.size(); ++i) {
      std::int64_t size = 0;
      if (!shape->items[i].whole(size) || size < 1 || size > largest || all * size > largest) return false;
      all *= size;
      input.sizes.push_back(size);
    }
    return true;
  }

  static bool fits(const Input& input, std::size_t axes) {
    const bool list = input.kind == "sequence" || input.kind == "bag";
    const bool single = input.kind == "category" || input.kind == "counts";
    if (!input.whole) return !list && !single;
    return list ? axes == 2 : single ? axes == 1 : axes <= 2;
  }

  void read_ids(const json::Value& entry, Input& input) const {
    const auto& name = input.name;
    const auto *range = said(entry, "range"), *values = said(entry, "values"), *numbers = said(entry, "numbers"),
               *ids = said(entry, "ids"), *vocabulary = said(entry, "vocabulary");
    const bool any = range != nullptr || values != nullptr || numbers != nullptr || ids != nullptr || vocabulary != nullptr;
    require(!any || (input.whole && !input.counts()), name, "has a range, values or a vocabulary, and takes no ids");
    if (range != nullptr) {
      input.ranged = range->is(Kind::array) && range->items.size() == 2 && range->items[0].whole(input.low) &&
                     range->items[1].whole(input.high) && input.low <= input.high;
      require(input.ranged, name, "has a range that is not two whole numbers, the lower one first");
    }
    const auto coding = text(entry, "ids");
    require(ids == nullptr || coding == "direct" || coding == "hash" || coding == "fitted", name,
            "has `ids` that are not `direct`, `hash` or `fitted`");
    input.hashed = coding == "hash";
    require(input.ranged || !input.whole || input.counts() || input.hashed, name, "has no range");
    input.by_value = numbers != nullptr;
    require(!input.by_value || text(entry, "numbers") == "values", name, "has `numbers` that are not `values`");
    require(!input.by_value || values != nullptr, name, "has `numbers` that are values, and no values");
    require(values == nullptr || read_values(*values, input), name,
            std::string("has values that are not different texts") + (input.by_value ? " and whole numbers" : ""));
    input.table = text(entry, "vocabulary");
    require(vocabulary == nullptr || !input.table.empty(), name, "has a vocabulary that is no table's name");
    require(vocabulary == nullptr || !input.hashed, name, "has both hashed ids and a vocabulary");
  }

  static bool read_values(const json::Value& values, Input& input) {
    if (!values.is(Kind::array)) return false;
    std::set<std::int64_t> numbers;
    std::int64_t at = 0, number = 0;
    for (const auto& value : values.items) {
      const bool fits = value.is(Kind::string) ? input.values.emplace(value.text, at++).second
                                               : input.by_value && value.whole(number) && numbers.insert(number).second;
      if (!fits) return false;
    }
    const auto size = static_cast<std::int64_t>(values.items.size());
    if (input.by_value) input.vocabulary = std::make_shared<const Vocabulary>(values, size);
    return true;
  }

  /// What entries have to be beside each other: one of each name, and counts last, where both levels are.
  void check_together(const std::vector<Input>& inputs) const {
    std::set<std::string> names, levels;
    for (std::size_t at = 0; at < inputs.size(); ++at) {
      const auto& input = inputs[at];
      require(names.insert(input.name).second, input.name, "is there twice");
      require(!input.counts() || input.name == counts_name, input.name,
              std::string("has counts and is not named `") + counts_name + "`");
      require(input.optional == input.counts(), input.name, input.counts() ? "is not optional" : "is optional");
      const bool last = at + 1 == inputs.size() && levels.size() == 2 && input.rows == "R";
      require(!input.counts() || last, input.name, "is not the last one of inputs of both levels");
      levels.insert(input.rows);
    }
  }

  std::string surface_;
};

/// The inputs that a manifest's list describes. Throws Error, T701, where an entry lacks something, or its parts
/// disagree.
inline std::vector<Input> read_entries(const std::string& surface, const json::Value* entries) {
  return Entries(surface).read(entries);
}

}  // namespace towerspec
