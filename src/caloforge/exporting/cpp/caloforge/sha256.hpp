// SHA-256 (FIPS 180-4) of a file's content, as hexadecimal digits.
#ifndef CALOFORGE_SHA256_HPP
#define CALOFORGE_SHA256_HPP

#include <array>
#include <cmath>
#include <cstdint>
#include <string>

namespace caloforge {

namespace detail {

inline std::uint32_t rotated(std::uint32_t word, int bits) { return word >> bits | word << (32 - bits); }

// the first 32 bits of the fractional parts of roots of the first primes, which are the constants of SHA-2
template <std::size_t N>
std::array<std::uint32_t, N> of_primes(double power) {
  std::array<std::uint32_t, N> found{};
  std::size_t count = 0;
  for (unsigned candidate = 2; count < N; ++candidate) {
    bool prime = true;
    for (unsigned divisor = 2; divisor * divisor <= candidate; ++divisor) prime &= candidate % divisor != 0;
    if (!prime) continue;
    const long double root = std::pow(static_cast<long double>(candidate), 1.0L / power);
    found[count++] = static_cast<std::uint32_t>((root - std::floor(root)) * 4294967296.0L);
  }
  return found;
}

}  // namespace detail

inline std::string sha256(std::string data) {
  using detail::rotated;
  static const auto constants = detail::of_primes<64>(3);
  auto state = detail::of_primes<8>(2);
  const std::uint64_t bits = 8 * static_cast<std::uint64_t>(data.size());
  data += static_cast<char>(0x80);
  data.append((120 - data.size() % 64) % 64, '\0');
  for (int byte = 7; byte >= 0; --byte) data += static_cast<char>(bits >> 8 * byte & 0xff);
  for (std::size_t start = 0; start < data.size(); start += 64) {
    std::array<std::uint32_t, 64> words{};
    for (std::size_t i = 0; i < 64; ++i) {
      if (i < 16) {
        for (std::size_t byte = 0; byte < 4; ++byte)
          words[i] = words[i] << 8 | static_cast<unsigned char>(data[start + 4 * i + byte]);
        continue;
      }
      const std::uint32_t a = words[i - 15], b = words[i - 2];
      words[i] = words[i - 16] + (rotated(a, 7) ^ rotated(a, 18) ^ a >> 3) + words[i - 7] +
                 (rotated(b, 17) ^ rotated(b, 19) ^ b >> 10);
    }
    auto [a, b, c, d, e, f, g, h] = state;
    for (std::size_t i = 0; i < 64; ++i) {
      const std::uint32_t first = h + (rotated(e, 6) ^ rotated(e, 11) ^ rotated(e, 25)) +
                                  ((e & f) ^ (~e & g)) + constants[i] + words[i];
      const std::uint32_t second =
          (rotated(a, 2) ^ rotated(a, 13) ^ rotated(a, 22)) + ((a & b) ^ (a & c) ^ (b & c));
      h = g, g = f, f = e, e = d + first, d = c, c = b, b = a, a = first + second;
    }
    const std::array<std::uint32_t, 8> round{a, b, c, d, e, f, g, h};
    for (std::size_t i = 0; i < 8; ++i) state[i] += round[i];
  }
  std::string digest;
  for (const std::uint32_t word : state)
    for (int shift = 28; shift >= 0; shift -= 4) digest += "0123456789abcdef"[word >> shift & 0xf];
  return digest;
}

}  // namespace caloforge

#endif
