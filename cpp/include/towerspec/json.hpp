// A small JSON reader: manifests and inputs files in, a tree of values out. No dependency beyond the standard library.
#pragma once

#include <charconv>
#include <cstdint>
#include <limits>
#include <stdexcept>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace towerspec::json {

/// Why a text is not JSON, and at which byte.
class Malformed : public std::runtime_error {
 public:
  Malformed(const std::string& why, std::size_t at) : std::runtime_error(why + " at byte " + std::to_string(at)) {}
};

/// One value. A number keeps its text, since only its reader knows whether it is whole.
struct Value {
  enum class Kind { null, boolean, number, string, array, object };

  Kind kind = Kind::null;
  bool truth = false;
  std::string text;  // of a number or a string
  std::vector<Value> items;
  std::vector<std::pair<std::string, Value>> members;  // in the file's order

  bool is(Kind k) const { return kind == k; }

  /// The member of an object by name, or nullptr.
  const Value* find(std::string_view name) const {
    for (const auto& [key, value] : members) {
      if (key == name) return &value;
    }
    return nullptr;
  }

  /// The member of an object by name, which must be there.
  const Value& at(std::string_view name) const {
    if (const Value* found = find(name)) return *found;
    throw Malformed("there is no \"" + std::string(name) + "\"", 0);
  }

  /// A number as double; `NaN` and `Infinity` are read as Python writes them.
  double real() const {
    if (text == "NaN") return std::numeric_limits<double>::quiet_NaN();
    if (text == "Infinity") return std::numeric_limits<double>::infinity();
    if (text == "-Infinity") return -std::numeric_limits<double>::infinity();
    double x = 0;
    const auto [end, code] = std::from_chars(text.data(), text.data() + text.size(), x);
    if (code == std::errc::result_out_of_range) {  // from_chars leaves x alone: tell overflow from underflow
      const bool small = text.find("e-") != std::string::npos || text.find("E-") != std::string::npos;
      x = small ? 0.0 : std::numeric_limits<double>::infinity();
      return text[0] == '-' ? -x : x;
    }
    if (!is(Kind::number) || end != text.data() + text.size()) throw Malformed("`" + text + "` is not a number", 0);
    return x;
  }

  /// Whether a number is whole and fits 64 bits; if so, it is put into `x`.
  bool whole(std::int64_t& x) const {
    if (!is(Kind::number)) return false;
    const auto [end, code] = std::from_chars(text.data(), text.data() + text.size(), x);
    return code == std::errc() && end == text.data() + text.size();
  }

  /// Whether a number is whole and fits 64 bits without a sign; if so, its bits are put into `x`.
  bool bits(std::int64_t& x) const {
    if (!is(Kind::number)) return false;
    std::uint64_t bits = 0;
    const auto [end, code] = std::from_chars(text.data(), text.data() + text.size(), bits);
    if (code != std::errc() || end != text.data() + text.size()) return false;
    x = static_cast<std::int64_t>(bits);
    return true;
  }

  /// A whole number, which it must be.
  std::int64_t integer() const {
    std::int64_t x = 0;
    if (!whole(x)) throw Malformed("`" + text + "` is not a whole number", 0);
    return x;
  }
};

/// Reads one value from a text; see `parse`.
class Reader {
 public:
  explicit Reader(std::string_view text) : text_(text) {}

  Value document() {
    Value value = read(0);
    blanks();
    if (at_ != text_.size()) fail("there is more after the value");
    return value;
  }

 private:
  static constexpr int deepest = 64;  // so that no input can exhaust the stack

  [[noreturn]] void fail(const std::string& why) const { throw Malformed(why, at_); }

  char peek() const { return at_ < text_.size() ? text_[at_] : '\0'; }

  void blanks() {
    while (at_ < text_.size() && (peek() == ' ' || peek() == '\n' || peek() == '\t' || peek() == '\r')) ++at_;
  }

  bool take(std::string_view word) {
    if (text_.substr(at_, word.size()) != word) return false;
    at_ += word.size();
    return true;
  }

  Value read(int depth) {
    if (depth > deepest) fail("brackets are nested too deeply");
    blanks();
    Value value;
    const char c = peek();
    if (c == '{') return object(depth);
    if (c == '[') return array(depth);
    if (c == '"') {
      value.kind = Value::Kind::string;
      value.text = string();
    } else if (take("true") || take("false")) {
      value.kind = Value::Kind::boolean;
      value.truth = text_[at_ - 2] == 'u';
    } else if (!take("null")) {
      value.kind = Value::Kind::number;
      value.text = number();
    }
    return value;
  }

  std::string number() {
    for (const std::string_view word : {"NaN", "Infinity", "-Infinity"}) {
      if (take(word)) return std::string(word);
    }
    const std::size_t start = at_;
    while (at_ < text_.size() && std::string_view("+-.0123456789eE").find(peek()) != std::string_view::npos) ++at_;
    if (at_ == start) fail("a value was expected");
    return std::string(text_.substr(start, at_ - start));
  }

  Value array(int depth) {
    Value value;
    value.kind = Value::Kind::array;
    ++at_;
    blanks();
    if (take("]")) return value;
    while (true) {
      value.items.push_back(read(depth + 1));
      blanks();
      if (take("]")) return value;
      if (!take(",")) fail("`,` or `]` was expected");
    }
  }

  Value object(int depth) {
    Value value;
    value.kind = Value::Kind::object;
    ++at_;
    blanks();
    if (take("}")) return value;
    while (true) {
      blanks();
      if (peek() != '"') fail("a name was expected");
      std::string name = string();
      blanks();
      if (!take(":")) fail("`:` was expected");
      value.members.emplace_back(std::move(name), read(depth + 1));
      blanks();
      if (take("}")) return value;
      if (!take(",")) fail("`,` or `}` was expected");
    }
  }

  std::string string() {
    std::string out;
    for (++at_; at_ < text_.size();) {
      const char c = text_[at_++];
      if (c == '"') return out;
      if (c != '\\') {
        out += c;
        continue;
      }
      escape(out);
    }
    fail("a text is not closed");
  }

  void escape(std::string& out) {
    static constexpr std::string_view from = "\"\\/bfnrt", to = "\"\\/\b\f\n\r\t";
    const char c = peek();
    ++at_;
    if (const auto i = from.find(c); i != std::string_view::npos) {
      out += to[i];
    } else if (c == 'u') {
      std::uint32_t point = hex();
      if (point >= 0xD800 && point < 0xDC00 && take("\\u")) point = 0x10000 + ((point - 0xD800) << 10) + (hex() - 0xDC00);
      utf8(point, out);
    } else {
      fail("an escape is unknown");
    }
  }

  std::uint32_t hex() {
    std::uint32_t x = 0;
    const auto digits = text_.substr(at_, 4);
    const auto [end, code] = std::from_chars(digits.data(), digits.data() + digits.size(), x, 16);
    if (code != std::errc() || end != digits.data() + 4) fail("four hexadecimal digits were expected");
    at_ += 4;
    return x;
  }

  static void utf8(std::uint32_t p, std::string& out) {
    const auto tail = [&](int shift) { out += static_cast<char>(0x80 | ((p >> shift) & 0x3F)); };
    if (p < 0x80) {
      out += static_cast<char>(p);
    } else if (p < 0x800) {
      out += static_cast<char>(0xC0 | (p >> 6));
      tail(0);
    } else if (p < 0x10000) {
      out += static_cast<char>(0xE0 | (p >> 12));
      tail(6), tail(0);
    } else {
      out += static_cast<char>(0xF0 | ((p >> 18) & 7));
      tail(12), tail(6), tail(0);
    }
  }

  std::string_view text_;
  std::size_t at_ = 0;
};

/// A text's one value. Throws Malformed.
inline Value parse(std::string_view text) { return Reader(text).document(); }

}  // namespace towerspec::json
