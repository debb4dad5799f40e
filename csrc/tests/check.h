// What the parts of the self-test share: random inputs, comparisons, and the marks by which valgrind finds secrets.
#pragma once

#include <cstdint>
#include <cstdio>
#include <vector>

#if defined(__has_include)
#if __has_include(<valgrind/memcheck.h>)
#include <valgrind/memcheck.h>
#endif
#endif

namespace aero {

using U = std::uint64_t;
using Bytes = std::vector<std::uint8_t>;
using Words = std::vector<U>;
using Small = std::vector<std::int8_t>;

// Secrets are memory without a value to valgrind's memcheck, which then reports every branch and every address that
// depends on one (Langley's ctgrind). Elsewhere these two do nothing.
template <typename T>
void secret(std::vector<T>& data) {
#ifdef VALGRIND_MAKE_MEM_UNDEFINED
  VALGRIND_MAKE_MEM_UNDEFINED(data.data(), data.size() * sizeof(T));
#else
  (void)data;
#endif
}

template <typename T>
void open(std::vector<T>& data) {
#ifdef VALGRIND_MAKE_MEM_DEFINED
  VALGRIND_MAKE_MEM_DEFINED(data.data(), data.size() * sizeof(T));
#else
  (void)data;
#endif
}

// SplitMix64 (Steele, Lea and Flood 2014).
class Random {
 public:
  explicit Random(U seed) : state_(seed) {}

  U word() {
    U z = state_ += 0x9e3779b97f4a7c15;
    z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9;
    z = (z ^ (z >> 27)) * 0x94d049bb133111eb;
    return z ^ (z >> 31);
  }
  U below(U bound) { return word() % bound; }

  Words words(std::size_t n) {
    Words out(n);
    for (U& x : out) x = word();
    return out;
  }
  Words words_below(std::size_t n, U bound) {
    Words out(n);
    for (U& x : out) x = below(bound);
    return out;
  }
  Bytes bytes(std::size_t n, U bound = 256) {
    Bytes out(n);
    for (std::uint8_t& x : out) x = static_cast<std::uint8_t>(below(bound));
    return out;
  }
  // From -most to most.
  template <typename T>
  std::vector<T> centred(std::size_t n, std::int64_t most) {
    std::vector<T> out(n);
    for (T& x : out) x = static_cast<T>(static_cast<std::int64_t>(below(static_cast<U>(2 * most + 1))) - most);
    return out;
  }
  Small small(std::size_t n, int most) { return centred<std::int8_t>(n, most); }

 private:
  U state_;
};

// What a level gives: every result is compared with what it must be, and all results enter a digest (FNV-1a), by which
// levels and numbers of threads are compared.
class Results {
 public:
  // `actual` is opened first.
  template <typename T>
  void equal(std::vector<T>& actual, const std::vector<T>& expected, const char* what) {
    same(actual);
    check(actual == expected, what);
  }
  // A result that is only compared between levels.
  template <typename T>
  void same(std::vector<T>& actual) {
    open(actual);
    const auto* bytes = reinterpret_cast<const std::uint8_t*>(actual.data());
    for (std::size_t i = 0; i < actual.size() * sizeof(T); ++i) digest_ = (digest_ ^ bytes[i]) * 0x100000001b3;
  }
  void check(bool holds, const char* what) {
    ++checks_;
    if (holds) return;
    ++failures_;
    std::printf("  wrong: %s\n", what);
  }

  U digest() const { return digest_; }
  int checks() const { return checks_; }
  int failures() const { return failures_; }

 private:
  U digest_ = 0xcbf29ce484222325;
  int checks_ = 0, failures_ = 0;
};

// The parts, one to a file.
void test_symmetric(Results&);
void test_transfers(Results&);
void test_ring(Results&);
void test_lattice(Results&);
void test_slots(Results&);

}  // namespace aero
