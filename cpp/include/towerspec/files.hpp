// Inputs from a file: JSON (`{"name": [...], ...}`, texts and ragged lists allowed) or safetensors.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <limits>
#include <string>
#include <unordered_map>
#include <vector>

#include "towerspec/safetensors.hpp"
#include "towerspec/towerspec.hpp"

namespace towerspec {

/// Turns JSON values into the tensors of one surface's inputs, by the rules of docs/inputs.md.
class JsonInputs {
 public:
  explicit JsonInputs(const Boundary& boundary) : boundary_(boundary) {}

  /// From an object of lists by name. Throws Error, T702 to T705.
  Inputs read(const json::Value& document) const {
    boundary_.check_names(document.members);
    std::unordered_map<std::string, const json::Value*> given;
    for (const auto& [name, value] : document.members) given.emplace(name, &value);
    Inputs inputs;
    for (const auto& input : boundary_.inputs()) {
      const auto found = given.find(input.name);
      if (found == given.end()) continue;
      inputs[input.name] = boundary_.fit(input, [&] { return tensor(input, *found->second); });
    }
    return inputs;
  }

 private:
  using Kind = json::Value::Kind;

  static at::Tensor tensor(const Input& input, const json::Value& value) {
    if (!value.is(Kind::array)) throw Unfit{"T704", "is not a list"};
    std::vector<std::int64_t> shape{static_cast<std::int64_t>(value.items.size())};
    shape.insert(shape.end(), input.sizes.begin(), input.sizes.end());
    if (!input.whole) {
      std::vector<double> found;
      for (std::size_t row = 0; row < value.items.size(); ++row) numbers(input, value.items[row], row, 0, found);
      return at::from_blob(found.data(), shape, at::kDouble).clone();
    }
    std::vector<std::int64_t> found;
    for (std::size_t row = 0; row < value.items.size(); ++row) {
      if (input.listed()) list(input, value.items[row], row, found);
      else found.push_back(id(input, value.items[row], row));
    }
    return at::from_blob(found.data(), shape, at::kLong).clone();
  }

  static Unfit unfit(const char* code, const std::string& what, std::size_t row) {
    return {code, what + " in row " + std::to_string(row)};
  }

  /// A row of numbers from an axis on; a missing one is all missing.
  static void numbers(const Input& input, const json::Value& value, std::size_t row, std::size_t axis,
                      std::vector<double>& found) {
    if (axis == input.sizes.size()) return found.push_back(number(value, row));
    if (value.is(Kind::null)) {
      std::int64_t missing = 1;
      for (auto i = axis; i < input.sizes.size(); ++i) missing *= input.sizes[i];
      found.insert(found.end(), static_cast<std::size_t>(missing), std::numeric_limits<double>::quiet_NaN());
      return;
    }
    if (!value.is(Kind::array)) throw unfit("T705", "holds no list", row);
    if (static_cast<std::int64_t>(value.items.size()) != input.sizes[axis]) {
      throw unfit("T705", "holds a list of " + std::to_string(value.items.size()), row);
    }
    for (const auto& item : value.items) numbers(input, item, row, axis + 1, found);
  }

  static double number(const json::Value& value, std::size_t row) {
    check_single(value, row);
    if (value.is(Kind::null)) return std::numeric_limits<double>::quiet_NaN();
    if (value.is(Kind::string)) throw unfit("T704", "holds a text", row);
    return value.is(Kind::boolean) ? static_cast<double>(value.truth) : value.number;
  }

  static void check_single(const json::Value& value, std::size_t row) {
    if (value.is(Kind::array)) throw unfit("T705", "holds a list", row);
    if (value.is(Kind::object)) throw unfit("T704", "holds an object", row);
  }

  /// A list's newest values, padded.
  static void list(const Input& input, const json::Value& value, std::size_t row, std::vector<std::int64_t>& found) {
    if (!value.is(Kind::array) && !value.is(Kind::null)) throw unfit("T705", "holds no list", row);
    const auto size = value.items.size(), kept = std::min(size, static_cast<std::size_t>(input.sizes[0]));
    for (auto i = size - kept; i < size; ++i) found.push_back(id(input, value.items[i], row));
    found.insert(found.end(), static_cast<std::size_t>(input.sizes[0]) - kept, padding);
  }

  static std::int64_t id(const Input& input, const json::Value& value, std::size_t row) {
    check_single(value, row);
    if (value.is(Kind::null)) {
      if (input.counts()) throw unfit("T704", "holds a missing value", row);
      return padding;
    }
    if (value.is(Kind::string)) return text(input, value.text, row);
    if (value.is(Kind::boolean)) throw unfit("T704", "holds a truth value", row);
    return value.written_whole() ? whole(input, value, row) : from_float(value.number, row);
  }

  /// A text as an id; of a vocabulary and among values, "100" is 100.
  static std::int64_t text(const Input& input, const std::string& value, std::size_t row) {
    if (!input.takes_texts()) throw unfit("T704", "holds a text", row);
    if (input.hashed) return text_id(value);
    if (!input.raw()) {
      const auto found = input.values.find(value);
      return found == input.values.end() ? static_cast<std::int64_t>(input.values.size()) : found->second;
    }
    std::int64_t id = 0;
    std::uint64_t bits = 0;
    if (towerspec::whole(value, id)) return id;
    return towerspec::whole(value, bits) ? beyond(input, bits) : text_id(value);
  }

  static std::int64_t whole(const Input& input, const json::Value& value, std::size_t row) {
    std::int64_t id = 0;
    std::uint64_t bits = 0;
    if (value.whole(id)) return id;
    if (!value.whole(bits)) throw unfit("T704", "holds a whole number beyond 64 bits", row);
    return beyond(input, bits);
  }

  /// A whole number that takes all 64 bits: they are an id's, with or without a sign; a row has at most 63.
  static std::int64_t beyond(const Input& input, std::uint64_t bits) {
    return input.takes_any() ? static_cast<std::int64_t>(bits) : std::numeric_limits<std::int64_t>::max();
  }

  static std::int64_t from_float(double value, std::size_t row) {
    if (std::abs(value) > 9007199254740992.0) throw unfit("T704", "holds a floating-point id beyond 2^53", row);
    if (value != std::floor(value)) throw unfit("T704", "holds a fraction", row);
    return static_cast<std::int64_t>(value);
  }

  const Boundary& boundary_;
};

/// A surface's inputs from a `.json` or `.safetensors` file. Throws Error: T704 where the file is malformed, and of
/// JSON also T702 to T705, as a call.
inline Inputs read_inputs(const std::filesystem::path& path, const Surface& surface) {
  const auto unread = [&](const std::string& why) { return Error("T704", "`" + path.string() + "` " + why); };
  const auto& boundary = surface.boundary();
  const std::string content = read_file(path, "T704");
  Inputs inputs;
  try {
    if (path.extension() == ".safetensors") {
      inputs = safetensors::parse(content);
    } else {
      const auto document = json::parse(content);
      if (!document.is(json::Value::Kind::object)) throw unread("holds no object: inputs are lists of rows by name");
      inputs = JsonInputs(boundary).read(document);
    }
  } catch (const json::Malformed& error) {
    throw unread(std::string("is not JSON: ") + error.what());
  } catch (const safetensors::Malformed& error) {
    throw unread(error.what());
  }
  for (auto& [name, x] : inputs) x = x.to(boundary.device());
  return inputs;
}

}  // namespace towerspec
