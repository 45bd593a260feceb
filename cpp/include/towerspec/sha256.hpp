// SHA-256, to compare a file with the digest that its manifest has.
//
// National Institute of Standards and Technology: Secure Hash Standard, FIPS 180-4, sections 4.1.2, 5.1.1 and 6.2.
#pragma once

#include <algorithm>
#include <array>
#include <bit>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <string>
#include <string_view>

#if defined(__x86_64__) && !defined(TOWERSPEC_PORTABLE_SHA256)
#define TOWERSPEC_SHA_INSTRUCTIONS
#include <cpuid.h>
#include <immintrin.h>
#endif

namespace towerspec {

/// The digest of some bytes, given in any number of pieces.
class Sha256 {
 public:
  void update(std::string_view bytes) {
    length_ += bytes.size();
    if (held_ > 0) {
      const auto taken = std::min(bytes.size(), block_.size() - held_);
      std::memcpy(block_.data() + held_, bytes.data(), taken);
      held_ += taken;
      bytes.remove_prefix(taken);
      if (held_ < block_.size()) return;
      mix(block_.data(), 1);
      held_ = 0;
    }
    mix(bytes.data(), bytes.size() / block_.size());
    held_ = bytes.size() % block_.size();
    std::memcpy(block_.data(), bytes.data() + (bytes.size() - held_), held_);
  }

  /// The digest in hex; nothing can be added afterwards.
  std::string hex() {
    const std::uint64_t bits = length_ * 8;
    std::string padding(held_ < 56 ? 56 - held_ : 120 - held_, '\0');
    padding[0] = static_cast<char>(0x80);
    for (int shift = 56; shift >= 0; shift -= 8) padding += static_cast<char>(bits >> shift);
    update(padding);
    std::string text;
    for (const auto word : state_) {
      for (int shift = 28; shift >= 0; shift -= 4) text += "0123456789abcdef"[(word >> shift) & 15];
    }
    return text;
  }

 private:
  alignas(16) static constexpr std::array<std::uint32_t, 64> constants{
      0x428a2f98, 0x71374491, 0xb5c0fbcf, 0xe9b5dba5, 0x3956c25b, 0x59f111f1, 0x923f82a4, 0xab1c5ed5,
      0xd807aa98, 0x12835b01, 0x243185be, 0x550c7dc3, 0x72be5d74, 0x80deb1fe, 0x9bdc06a7, 0xc19bf174,
      0xe49b69c1, 0xefbe4786, 0x0fc19dc6, 0x240ca1cc, 0x2de92c6f, 0x4a7484aa, 0x5cb0a9dc, 0x76f988da,
      0x983e5152, 0xa831c66d, 0xb00327c8, 0xbf597fc7, 0xc6e00bf3, 0xd5a79147, 0x06ca6351, 0x14292967,
      0x27b70a85, 0x2e1b2138, 0x4d2c6dfc, 0x53380d13, 0x650a7354, 0x766a0abb, 0x81c2c92e, 0x92722c85,
      0xa2bfe8a1, 0xa81a664b, 0xc24b8b70, 0xc76c51a3, 0xd192e819, 0xd6990624, 0xf40e3585, 0x106aa070,
      0x19a4c116, 0x1e376c08, 0x2748774c, 0x34b0bcb5, 0x391c0cb3, 0x4ed8aa4a, 0x5b9cca4f, 0x682e6ff3,
      0x748f82ee, 0x78a5636f, 0x84c87814, 0x8cc70208, 0x90befffa, 0xa4506ceb, 0xbef9a3f7, 0xc67178f2};

  /// Takes blocks of 64 bytes into the state.
  void mix(const char* blocks, std::size_t count) {
#ifdef TOWERSPEC_SHA_INSTRUCTIONS
    static const bool fast = has_instructions();
    if (fast) return mix_by_instructions(blocks, count);
#endif
    for (; count > 0; --count, blocks += 64) mix(blocks);
  }

  void mix(const char* block) {
    std::array<std::uint32_t, 64> w;
    for (std::size_t t = 0; t < 16; ++t) {
      const auto* p = reinterpret_cast<const unsigned char*>(block) + 4 * t;
      w[t] = std::uint32_t{p[0]} << 24 | std::uint32_t{p[1]} << 16 | std::uint32_t{p[2]} << 8 | p[3];
    }
    for (std::size_t t = 16; t < 64; ++t) {
      const auto x = w[t - 15], y = w[t - 2];
      w[t] = (std::rotr(y, 17) ^ std::rotr(y, 19) ^ y >> 10) + w[t - 7] +
             (std::rotr(x, 7) ^ std::rotr(x, 18) ^ x >> 3) + w[t - 16];
    }
    auto [a, b, c, d, e, f, g, h] = state_;
    for (std::size_t t = 0; t < 64; ++t) {
      const auto first = h + (std::rotr(e, 6) ^ std::rotr(e, 11) ^ std::rotr(e, 25)) + ((e & f) ^ (~e & g)) + constants[t] + w[t];
      const auto second = (std::rotr(a, 2) ^ std::rotr(a, 13) ^ std::rotr(a, 22)) + ((a & b) ^ (a & c) ^ (b & c));
      h = g, g = f, f = e, e = d + first, d = c, c = b, b = a, a = first + second;
    }
    const std::array<std::uint32_t, 8> more{a, b, c, d, e, f, g, h};
    for (std::size_t i = 0; i < more.size(); ++i) state_[i] += more[i];
  }

#ifdef TOWERSPEC_SHA_INSTRUCTIONS
  static bool has_instructions() {
    unsigned a = 0, b = 0, c = 0, d = 0;
    return __get_cpuid_count(7, 0, &a, &b, &c, &d) != 0 && (b >> 29 & 1) != 0;
  }

  /// The same by the instructions that most CPUs have for it, eight times as fast. Intel: New Instructions Supporting
  /// the Secure Hash Algorithm on Intel Architecture Processors, 2013.
  __attribute__((target("sha,sse4.1"))) void mix_by_instructions(const char* blocks, std::size_t count) {
    auto* state = reinterpret_cast<__m128i*>(state_.data());
    const auto* added = reinterpret_cast<const __m128i*>(constants.data());
    const auto big_endian = _mm_set_epi64x(0x0c0d0e0f08090a0b, 0x0405060700010203);
    const auto badc = _mm_shuffle_epi32(_mm_loadu_si128(state), 0xb1);  // the names are from the lowest word on
    const auto hgfe = _mm_shuffle_epi32(_mm_loadu_si128(state + 1), 0x1b);
    auto feba = _mm_alignr_epi8(badc, hgfe, 8), hgdc = _mm_blend_epi16(hgfe, badc, 0xf0);
    for (; count > 0; --count, blocks += 64) {
      const auto first = feba, second = hgdc;
      __m128i w[4];  // the last sixteen words of the schedule
      for (std::size_t i = 0; i < 16; ++i) {
        auto& next = w[i % 4];
        if (i < 4) {
          next = _mm_shuffle_epi8(_mm_loadu_si128(reinterpret_cast<const __m128i*>(blocks) + i), big_endian);
        } else {
          const auto last = w[(i + 3) % 4];
          const auto sum = _mm_add_epi32(_mm_sha256msg1_epu32(next, w[(i + 1) % 4]), _mm_alignr_epi8(last, w[(i + 2) % 4], 4));
          next = _mm_sha256msg2_epu32(sum, last);
        }
        const auto words = _mm_add_epi32(next, _mm_load_si128(added + i));
        hgdc = _mm_sha256rnds2_epu32(hgdc, feba, words);
        feba = _mm_sha256rnds2_epu32(feba, hgdc, _mm_shuffle_epi32(words, 0x0e));
      }
      feba = _mm_add_epi32(feba, first);
      hgdc = _mm_add_epi32(hgdc, second);
    }
    const auto abef = _mm_shuffle_epi32(feba, 0x1b), dchg = _mm_shuffle_epi32(hgdc, 0xb1);
    _mm_storeu_si128(state, _mm_blend_epi16(abef, dchg, 0xf0));
    _mm_storeu_si128(state + 1, _mm_alignr_epi8(dchg, abef, 8));
  }
#endif

  std::array<std::uint32_t, 8> state_{0x6a09e667, 0xbb67ae85, 0x3c6ef372, 0xa54ff53a,
                                      0x510e527f, 0x9b05688c, 0x1f83d9ab, 0x5be0cd19};
  std::array<char, 64> block_{};  // what is given of the block that is not whole yet
  std::size_t held_ = 0;
  std::uint64_t length_ = 0;
};

/// The SHA-256 of some bytes, in hex.
inline std::string sha256(std::string_view bytes) {
  Sha256 digest;
  digest.update(bytes);
  return digest.hex();
}

}  // namespace towerspec
