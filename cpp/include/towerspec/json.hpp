// A small JSON reader: manifests and inputs files in, a tree of values out. No dependency beyond the standard library.
//
// The grammar is RFC 8259's and nothing beyond it, as in Python's `towerspec.runtime.json_text`, with the same words
// for what is wrong: a name once in an object, texts that are Unicode, numbers that float64 holds, 64 brackets deep.
#pragma once

#include <charconv>
#include <cstddef>
#include <cstdint>
#include <limits>
#include <stdexcept>
#include <string>
#include <string_view>
#include <system_error>
#include <unordered_set>
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
  double number = 0;  // to the nearest float64
  std::string text;   // of a number or a string
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

  /// Whether a number is written as a whole one, without a point or an exponent.
  bool written_whole() const { return is(Kind::number) && text.find_first_of(".eE") == std::string::npos; }

  /// Whether a number is written as a whole one and fits 64 bits; if so, it is put into `x`.
  bool whole(std::int64_t& x) const { return is(Kind::number) && fits(x); }

  /// Whether a number is written as a whole one and fits 64 bits without a sign; if so, it is put into `x`.
  bool whole(std::uint64_t& x) const { return is(Kind::number) && fits(x); }

  /// A whole number, which it must be.
  std::int64_t integer() const {
    std::int64_t x = 0;
    if (!whole(x)) throw Malformed("`" + text + "` is not a whole number", 0);
    return x;
  }

 private:
  template <class Whole>
  bool fits(Whole& x) const {
    const auto [end, code] = std::from_chars(text.data(), text.data() + text.size(), x);
    return code == std::errc() && end == text.data() + text.size();
  }
};

/// Reads one value from a text; see `parse`.
class Reader {
 public:
  explicit Reader(std::string_view text) : text_(text) {}

  Value document() {
    check_utf8();
    Value value = read(0);
    blanks();
    if (at_ != text_.size()) fail("there is more after the value");
    return value;
  }

 private:
  static constexpr int deepest = 64;  // so that no input can exhaust the stack

  [[noreturn]] void fail(const std::string& why) const { throw Malformed(why, at_); }
  [[noreturn]] static void fail(const std::string& why, std::size_t at) { throw Malformed(why, at); }

  char peek() const { return at_ < text_.size() ? text_[at_] : '\0'; }

  bool next_is(std::string_view letters) const {
    return at_ < text_.size() && letters.find(text_[at_]) != std::string_view::npos;
  }

  void blanks() {
    while (next_is(" \t\n\r")) ++at_;
  }

  bool take(std::string_view word) {
    if (text_.substr(at_, word.size()) != word) return false;
    at_ += word.size();
    return true;
  }

  Value read(int depth) {
    blanks();
    Value value;
    if (next_is("[{")) {
      if (depth == deepest) fail("brackets are nested too deeply");
      return peek() == '[' ? array(depth + 1) : object(depth + 1);
    }
    if (peek() == '"') {
      value.kind = Value::Kind::string;
      value.text = string();
    } else if (next_is("+-.0123456789")) {
      number(value);
    } else if (take("true") || take("false")) {
      value.kind = Value::Kind::boolean;
      value.truth = text_[at_ - 2] == 'u';
    } else if (!take("null")) {
      fail("a value was expected");
    }
    return value;
  }

  void number(Value& value) {
    const std::size_t start = at_;
    while (next_is("+-.0123456789eE")) ++at_;
    value.kind = Value::Kind::number;
    value.text = text_.substr(start, at_ - start);
    if (!well_written(value.text)) fail("a number is not written as JSON has it", start);
    const auto* end = value.text.data() + value.text.size();
    if (std::from_chars(value.text.data(), end, value.number).ec == std::errc()) return;
    if (magnitude(value.text) > 0) fail("a number is too large", start);
    value.number = value.text[0] == '-' ? -0.0 : 0.0;  // too small: the nearest is nought
  }

  /// -?(0|[1-9][0-9]*)(\.[0-9]+)?([eE][+-]?[0-9]+)?
  static bool well_written(std::string_view text) {
    std::size_t at = 0;
    const auto is = [&](std::string_view letters) {
      return at < text.size() && letters.find(text[at]) != std::string_view::npos;
    };
    const auto digits = [&] {
      const std::size_t start = at;
      while (is("0123456789")) ++at;
      return at > start;
    };
    if (is("-")) ++at;
    if (is("0")) ++at;
    else if (!digits()) return false;
    if (is(".") && (++at, !digits())) return false;
    if (is("eE")) {
      ++at;
      if (is("+-")) ++at;
      if (!digits()) return false;
    }
    return at == text.size();
  }

  /// Where a number's first digit that is not 0 stands: above 0 before the point, with its exponent; far from it,
  /// since a float64 can't hold the number.
  static std::int64_t magnitude(std::string_view text) {
    static constexpr std::int64_t most = std::numeric_limits<std::int64_t>::max() / 2;
    const auto end = std::min(text.find_first_of("eE"), text.size());
    std::int64_t exponent = 0;
    if (end < text.size()) {
      const auto from = end + 1 + (text[end + 1] == '+' ? 1 : 0);
      const auto read = std::from_chars(text.data() + from, text.data() + text.size(), exponent);
      if (read.ec != std::errc() || exponent > most || exponent < -most) exponent = text[from] == '-' ? -most : most;
    }
    const auto point = std::min(text.find('.'), end);
    const auto first = text.find_first_of("123456789");
    if (first >= end) return -most;
    const auto place = static_cast<std::int64_t>(point) - static_cast<std::int64_t>(first);
    return place + exponent;
  }

  Value array(int depth) {
    Value value;
    value.kind = Value::Kind::array;
    ++at_;
    blanks();
    if (take("]")) return value;
    while (true) {
      value.items.push_back(read(depth));
      blanks();
      if (take("]")) return value;
      if (!take(",")) fail("`,` or `]` was expected");
    }
  }

  Value object(int depth) {
    Value value;
    value.kind = Value::Kind::object;
    std::unordered_set<std::string> names;
    ++at_;
    blanks();
    if (take("}")) return value;
    while (true) {
      blanks();
      if (peek() != '"') fail("a name was expected");
      const std::size_t start = at_;
      std::string name = string();
      if (!names.insert(name).second) fail("a name is there twice", start);
      blanks();
      if (!take(":")) fail("`:` was expected");
      value.members.emplace_back(std::move(name), read(depth));
      blanks();
      if (take("}")) return value;
      if (!take(",")) fail("`,` or `}` was expected");
    }
  }

  std::string string() {
    std::string out;
    for (++at_; at_ < text_.size();) {
      const char c = text_[at_];
      if (static_cast<unsigned char>(c) < 0x20) fail("a control character stands in a text");
      if (c == '\\') {
        escape(out);
        continue;
      }
      ++at_;
      if (c == '"') return out;
      out += c;
    }
    fail("a text is not closed");
  }

  void escape(std::string& out) {
    static constexpr std::string_view from = "\"\\/bfnrt", to = "\"\\/\b\f\n\r\t";
    const std::size_t start = at_++;
    const auto i = at_ < text_.size() ? from.find(text_[at_]) : std::string_view::npos;
    if (i != std::string_view::npos) {
      out += to[i];
      ++at_;
    } else if (take("u")) {
      std::uint32_t point = hex(start);
      if (point >= 0xD800 && point < 0xDC00 && text_.substr(at_, 2) == "\\u") {
        const std::size_t second = at_;
        at_ += 2;
        const std::uint32_t low = hex(second);
        if (low < 0xDC00 || low > 0xDFFF) fail("half of a surrogate pair stands alone", start);
        point = 0x10000 + ((point - 0xD800) << 10) + (low - 0xDC00);
      }
      if (point >= 0xD800 && point <= 0xDFFF) fail("half of a surrogate pair stands alone", start);
      utf8(point, out);
    } else {
      fail("an escape is unknown", start);
    }
  }

  std::uint32_t hex(std::size_t start) {
    std::uint32_t x = 0;
    for (int i = 0; i < 4; ++i, ++at_) {
      if (!next_is("0123456789abcdefABCDEF")) fail("four hexadecimal digits were expected", start);
      const char c = text_[at_];
      x = x * 16 + static_cast<std::uint32_t>(c <= '9' ? c - '0' : (c | 0x20) - 'a' + 10);
    }
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
      out += static_cast<char>(0xF0 | (p >> 18));
      tail(12), tail(6), tail(0);
    }
  }

  void check_utf8() const {
    for (std::size_t at = 0; at < text_.size();) {
      const std::size_t size = utf8_size(text_.substr(at, 4));
      if (size == 0) fail("the text is not UTF-8", at);
      at += size;
    }
  }

  /// How many bytes the first character of a text has; 0 where it is none (Unicode 15, table 3-7).
  static std::size_t utf8_size(std::string_view text) {
    const auto byte = [&](std::size_t i) { return static_cast<unsigned>(static_cast<unsigned char>(text[i])); };
    const unsigned first = byte(0);
    if (first < 0x80) return 1;
    const std::size_t size = first < 0xC2 ? 0 : first < 0xE0 ? 2 : first < 0xF0 ? 3 : first < 0xF5 ? 4 : 0;
    if (size > text.size()) return 0;
    for (std::size_t i = 1; i < size; ++i) {
      if ((byte(i) & 0xC0) != 0x80) return 0;
    }
    const bool overlong = (first == 0xE0 && byte(1) < 0xA0) || (first == 0xF0 && byte(1) < 0x90);
    const bool none = (first == 0xED && byte(1) > 0x9F) || (first == 0xF4 && byte(1) > 0x8F);
    return size > 0 && (overlong || none) ? 0 : size;
  }

  std::string_view text_;
  std::size_t at_ = 0;
};

/// A text's one value. Throws Malformed.
inline Value parse(std::string_view text) { return Reader(text).document(); }

}  // namespace towerspec::json
