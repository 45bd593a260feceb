// Inputs from a file: JSON (`{"name": [...], ...}`, texts and ragged lists allowed) or safetensors.
#pragma once

#include <cstring>
#include <filesystem>
#include <string>
#include <vector>

#include "towerspec/towerspec.hpp"

namespace towerspec {

/// Turns JSON values into the tensors of one surface's inputs.
class JsonInputs {
 public:
  explicit JsonInputs(const Surface& surface) : surface_(surface) {}

  /// Throws Error, T704, where a value has the wrong type.
  Inputs read(const json::Value& document) const {
    if (!document.is(json::Value::Kind::object)) throw Error("T704", "inputs are an object: a list of rows by name");
    Inputs inputs;
    for (const auto& [name, value] : document.members) {
      const Input* input = find(name);
      // A name that the surface doesn't know is kept: the call reports it.
      inputs[name] = input == nullptr ? at::empty({0}) : tensor(*input, value);
    }
    return inputs;
  }

 private:
  const Input* find(const std::string& name) const {
    for (const auto& input : surface_.inputs()) {
      if (input.name == name) return &input;
    }
    return nullptr;
  }

  at::Tensor tensor(const Input& input, const json::Value& value) const {
    if (!value.is(json::Value::Kind::array)) throw wrong(input, "is not a list");
    const bool listed = input.kind == "sequence" || input.kind == "bag";
    std::vector<std::int64_t> shape{static_cast<std::int64_t>(value.items.size())};
    if (listed || value.items.empty()) {  // no rows have the right width, whatever it is
      shape.insert(shape.end(), input.sizes.begin(), input.sizes.end());
    } else {
      measure(input, value.items.front(), shape);
    }
    auto x = at::empty(shape, input.dtype());
    Cursor cursor{input, x.data_ptr()};
    for (const auto& row : value.items) {
      if (listed) list(cursor, row, shape[1]);
      else fill(cursor, row, shape, 1);
    }
    return x;
  }

  struct Cursor {
    const Input& input;
    void* data;
    std::int64_t at = 0;

    void put(std::int64_t id) { static_cast<std::int64_t*>(data)[at++] = id; }
    void put(float x) { static_cast<float*>(data)[at++] = x; }
  };

  static void measure(const Input& input, const json::Value& value, std::vector<std::int64_t>& shape) {
    if (!value.is(json::Value::Kind::array)) return;
    shape.push_back(static_cast<std::int64_t>(value.items.size()));
    if (!value.items.empty()) measure(input, value.items.front(), shape);
  }

  static void fill(Cursor& cursor, const json::Value& value, const std::vector<std::int64_t>& shape, std::size_t axis) {
    if (axis == shape.size()) return scalar(cursor, value);
    if (static_cast<std::int64_t>(value.items.size()) != shape[axis]) throw wrong(cursor.input, "has rows of unequal length");
    for (const auto& item : value.items) fill(cursor, item, shape, axis + 1);
  }

  /// A list's newest values, padded.
  static void list(Cursor& cursor, const json::Value& row, std::int64_t length) {
    if (!row.is(json::Value::Kind::array) && !row.is(json::Value::Kind::null)) throw wrong(cursor.input, "has a row that is no list");
    const auto size = static_cast<std::int64_t>(row.items.size());
    const auto kept = std::min(size, length);
    for (auto i = size - kept; i < size; ++i) scalar(cursor, row.items[static_cast<std::size_t>(i)]);
    for (auto i = kept; i < length; ++i) cursor.put(padding);
  }

  static void scalar(Cursor& cursor, const json::Value& value) {
    const auto& input = cursor.input;
    if (!input.whole) {
      if (value.is(json::Value::Kind::null)) return cursor.put(std::numeric_limits<float>::quiet_NaN());
      if (!value.is(json::Value::Kind::number)) throw wrong(input, "has a value that is no number");
      return cursor.put(static_cast<float>(value.real()));
    }
    std::int64_t id = padding;
    if (value.is(json::Value::Kind::string) && input.takes_any()) {
      id = text_id(value.text);
    } else if (input.takes_any() && value.bits(id)) {
      // all 64 bits are an id's, with or without a sign
    } else if (value.is(json::Value::Kind::string) && !input.values.empty()) {
      const auto found = input.values.find(value.text);
      id = found == input.values.end() ? static_cast<std::int64_t>(input.values.size()) : found->second;
    } else if (!value.is(json::Value::Kind::null) && !value.whole(id)) {
      throw wrong(input, "has a value that is no whole number");
    }
    cursor.put(id);
  }

  static Error wrong(const Input& input, const std::string& why) {
    return Error("T704", "the input `" + input.name + "` " + why, {}, input.wanted());
  }

  const Surface& surface_;
};

/// The tensors of a safetensors file: eight bytes of length, a JSON header, the data.
inline Inputs read_safetensors(const std::filesystem::path& path) {
  const std::string content = read_file(path, "T704");
  const auto broken = [&] { return Error("T704", "`" + path.string() + "` is no safetensors file"); };
  std::uint64_t length = 0;
  if (content.size() < 8) throw broken();
  std::memcpy(&length, content.data(), 8);
  if (length > content.size() - 8) throw broken();
  static const std::map<std::string, at::ScalarType> types{
      {"F64", at::kDouble}, {"F32", at::kFloat}, {"F16", at::kHalf}, {"BF16", at::kBFloat16}, {"I64", at::kLong},
      {"I32", at::kInt},    {"I16", at::kShort}, {"I8", at::kChar},  {"U8", at::kByte},       {"BOOL", at::kBool}};
  Inputs inputs;
  try {
    const auto header = json::parse(std::string_view(content).substr(8, length));
    const std::string_view data = std::string_view(content).substr(8 + length);
    for (const auto& [name, entry] : header.members) {
      if (name == "__metadata__") continue;
      const auto type = types.find(entry.at("dtype").text);
      std::vector<std::int64_t> shape;
      for (const auto& size : entry.at("shape").items) shape.push_back(size.integer());
      const auto from = static_cast<std::uint64_t>(entry.at("data_offsets").items.at(0).integer());
      const auto to = static_cast<std::uint64_t>(entry.at("data_offsets").items.at(1).integer());
      if (type == types.end() || from > to || to > data.size()) throw broken();
      auto x = at::empty(shape, type->second);
      if (x.nbytes() != to - from) throw broken();
      std::memcpy(x.data_ptr(), data.data() + from, to - from);
      inputs[name] = x;
    }
  } catch (const std::runtime_error&) {
    throw broken();
  } catch (const std::out_of_range&) {
    throw broken();
  }
  return inputs;
}

/// A surface's inputs from a `.json` or `.safetensors` file. Throws Error, T704.
inline Inputs read_inputs(const std::filesystem::path& path, const Surface& surface) {
  if (path.extension() == ".safetensors") return read_safetensors(path);
  try {
    return JsonInputs(surface).read(json::parse(read_file(path, "T704")));
  } catch (const json::Malformed& error) {
    throw Error("T704", "`" + path.string() + "` is not JSON: " + error.what());
  }
}

}  // namespace towerspec
