// AES, streams and sampling, bit packing, bit transposition.
#include <cstdlib>

#include "aes.h"
#include "bitpack.h"
#include "check.h"
#include "plain.h"
#include "sample.h"
#include "transpose.h"

namespace aero {
namespace {

Bytes hex(const char* digits) {
  Bytes out;
  for (; *digits; digits += 2) {
    const char pair[] = {digits[0], digits[1], 0};
    out.push_back(static_cast<std::uint8_t>(std::strtoul(pair, nullptr, 16)));
  }
  return out;
}

RoundKeys expanded(Bytes key) {
  RoundKeys keys;
  secret(key);
  expand_key(key.data(), keys);
  return keys;
}

// FIPS 197, appendices A.1 and B, C.1; NIST SP 800-38A, F.1.1 (ECB) and F.5.1 (CTR), whose counters are given as blocks.
void published(Results& r) {
  const Bytes key = hex("2b7e151628aed2a6abf7158809cf4f3c");
  const RoundKeys keys = expanded(key);
  Bytes last(keys.bytes + 160, keys.bytes + 176);
  r.equal(last, hex("d014f9a8c9ee2589e13f0cc8b6630ca6"), "key schedule, FIPS 197 A.1");
  struct Vector {
    const char *key, *plain, *cipher, *name;
  };
  const Vector vectors[] = {
      {"2b7e151628aed2a6abf7158809cf4f3c", "3243f6a8885a308d313198a2e0370734", "3925841d02dc09fbdc118597196a0b32",
       "AES, FIPS 197 B"},
      {"000102030405060708090a0b0c0d0e0f", "00112233445566778899aabbccddeeff", "69c4e0d86a7b0430d8cdb78070b4c55a",
       "AES, FIPS 197 C.1"},
      {"2b7e151628aed2a6abf7158809cf4f3c",
       "6bc1bee22e409f96e93d7e117393172aae2d8a571e03ac9c9eb76fac45af8e5130c81c46a35ce411e5fbc1191a0a52eff69f2445df4f9b17"
       "ad2b417be66c3710",
       "3ad77bb40d7a3660a89ecaf32466ef97f5d3d58503b9699de785895a96fdbaaf43b1cd7f598ece23881b00e3ed0306887b0c785e27e8ad3f"
       "8223207104725dd4",
       "AES, SP 800-38A F.1.1"},
      {"2b7e151628aed2a6abf7158809cf4f3c",
       "f0f1f2f3f4f5f6f7f8f9fafbfcfdfefff0f1f2f3f4f5f6f7f8f9fafbfcfdff00f0f1f2f3f4f5f6f7f8f9fafbfcfdff01f0f1f2f3f4f5f6f7"
       "f8f9fafbfcfdff02",
       "ec8cdf7398607cb0f2d21675ea9ea1e4362b7c3c6773516318a077d7fc5073ae6a2cc3787889374fbeb4c81b17ba6c44e89c399ff0f198c6"
       "d40a31db156cabfe",
       "AES, SP 800-38A F.5.1"},
  };
  for (const Vector& v : vectors) {
    const RoundKeys of = expanded(hex(v.key));
    Bytes in = hex(v.plain), out(in.size());
    aes_encrypt(of, in.data(), in.size() / 16, out.data());
    r.equal(out, hex(v.cipher), v.name);
  }
}

void against_definition(Results& r) {
  Random random(1);
  // Around the batches of all variants; past 2^8 and 2^32 the counter carries.
  for (const std::size_t n : {1, 3, 8, 9, 33, 47, 48, 127, 128, 129, 200, 400}) {
    const Bytes key = random.bytes(16);
    const plain::Aes aes(key.data());
    const RoundKeys keys = expanded(key);
    Bytes x = random.bytes(16 * n), out(16 * n), expected(16 * n), hashed(16 * n);
    Words tweaks = random.words(n);
    for (std::size_t i = 0; i < n; ++i) {
      aes.encrypt(&x[16 * i], &expected[16 * i]);
      plain::hash(aes, &x[16 * i], tweaks[i], &hashed[16 * i]);
    }
    secret(x);
    secret(tweaks);
    aes_encrypt(keys, x.data(), n, out.data());
    r.equal(out, expected, "aes_encrypt");
    aes_hash(keys, x.data(), tweaks.data(), n, out.data());
    r.equal(out, hashed, "aes_hash");
    for (const U first : {U{0}, U{250}, (U{1} << 32) - 5, (U{1} << 40) - 100}) {
      aes_counter(keys, first, n, out.data());
      r.equal(out, plain::stream(key.data(), first, n), "aes_counter");
    }
  }
}

// Every sampler reads the stream of `key` from block 3 on.
void samplers(Results& r) {
  const Bytes key = hex("80000000000000000000000000000000");
  const RoundKeys keys = expanded(key);
  // A rejected candidate shows, and says nothing about those that are kept: so for these two the key is no secret.
  RoundKeys shown;
  expand_key(key.data(), shown);
  const Bytes stream = plain::stream(key.data(), 3, 3000);
  const auto word = [&](std::size_t i) { return plain::word_of(&stream[8 * i]); };
  Words next;
  for (const std::size_t n : {1, 7, 64, 513, 1001}) {
    Bytes bytes(n), bits(n), expected_bits(n);
    next.push_back(sample_bytes(keys, 3, n, bytes.data()));
    r.equal(bytes, Bytes(stream.begin(), stream.begin() + static_cast<std::ptrdiff_t>(n)), "sample_bytes");
    next.push_back(sample_bits(keys, 3, n, bits.data()));
    for (std::size_t i = 0; i < n; ++i) expected_bits[i] = stream[i / 8] >> i % 8 & 1;
    r.equal(bits, expected_bits, "sample_bits");
    for (const int width : {1, 7, 25, 63, 64}) {
      Words out(n), expected(n);
      next.push_back(sample_ring(keys, 3, n, width, out.data()));
      for (std::size_t i = 0; i < n; ++i) expected[i] = word(i) & ~U{0} >> (64 - width);
      r.equal(out, expected, "sample_ring");
    }
    for (const int eta : {1, 21, 32}) {
      Small out(n), expected(n);
      next.push_back(sample_binomial(keys, 3, n, eta, out.data()));
      for (std::size_t i = 0; i < n; ++i)
        for (int b = 0; b < eta; ++b)
          expected[i] = static_cast<std::int8_t>(expected[i] + static_cast<int>(word(i) >> b & 1) -
                                                 static_cast<int>(word(i) >> (b + eta) & 1));
      r.equal(out, expected, "sample_binomial");
    }
    // A table with both ends: 0 is always reached, 2^63 - 1 almost never; and none at all.
    for (const Words& table : {Words{}, Words{0, 1, U{1} << 61, 5 * (U{1} << 60), (U{1} << 63) - 1}}) {
      Small out(n), expected(n);
      next.push_back(sample_table(keys, 3, n, table.data(), table.size(), out.data()));
      for (std::size_t i = 0; i < n; ++i) {
        int reached = 0;
        for (const U threshold : table) reached += word(i) >> 1 >= threshold;
        expected[i] = static_cast<std::int8_t>(word(i) & 1 ? -reached : reached);
      }
      r.equal(out, expected, "sample_table");
    }
    for (const U q : {U{1}, U{3}, (U{1} << 50) - 27, U{1} << 62}) {
      U mask = 0;
      while (mask < q - 1) mask = 2 * mask + 1;
      Words out(n), expected;
      next.push_back(sample_below(shown, 3, n, q, out.data()));
      for (std::size_t i = 0; expected.size() < n; ++i)
        if ((word(i) & mask) < q) expected.push_back(word(i) & mask);
      r.equal(out, expected, "sample_below");
    }
    Small ternary(n), expected;
    next.push_back(sample_ternary(shown, 3, n, ternary.data()));
    for (std::size_t i = 0; expected.size() < n; ++i)
      if (stream[i] != 255) expected.push_back(static_cast<std::int8_t>(stream[i] % 3 - 1));
    r.equal(ternary, expected, "sample_ternary");
  }
  r.same(next);
}

void packing(Results& r) {
  Random random(2);
  for (int width = 1; width <= 64; ++width)
    for (const std::size_t n : {1, 7, 8, 65, 200}) {
      const U mask = ~U{0} >> (64 - width);
      Words values = random.words(n), unpacked(n);
      for (U& x : values) x &= mask;
      const Words expected = values;
      Bytes bytes(packed_bytes(n, width)), by_bits(bytes.size());
      for (std::size_t b = 0; b < n * static_cast<std::size_t>(width); ++b)
        by_bits[b / 8] |= static_cast<std::uint8_t>((values[b / static_cast<std::size_t>(width)] >>
                                                     b % static_cast<std::size_t>(width) & 1)
                                                    << b % 8);
      secret(values);
      Bytes fits{bit_pack(values.data(), n, width, bytes.data())};
      r.equal(fits, Bytes{1}, "bit_pack refuses nothing that fits");
      r.equal(bytes, by_bits, "bit_pack");
      r.check(bit_unpack(bytes.data(), n, width, unpacked.data()), "bit_unpack refuses nothing of bit_pack");
      r.equal(unpacked, expected, "bit_unpack");
      if (width == 64) continue;
      open(values);
      values[n / 2] = mask + 1;
      r.check(!bit_pack(values.data(), n, width, bytes.data()), "bit_pack takes what does not fit");
    }
}

void transposition(Results& r) {
  Random random(3);
  for (const std::size_t row_bytes : {1, 8, 64, 77, 130}) {
    Bytes rows = random.bytes(kRows * row_bytes), out(kRows * row_bytes), expected(kRows * row_bytes);
    for (std::size_t row = 0; row < kRows; ++row)
      for (std::size_t c = 0; c < 8 * row_bytes; ++c)
        expected[16 * c + row / 8] |= static_cast<std::uint8_t>((rows[row * row_bytes + c / 8] >> c % 8 & 1) << row % 8);
    secret(rows);
    transpose_128(rows.data(), 8 * row_bytes, out.data());
    r.equal(out, expected, "transpose_128");
  }
}

}  // namespace

void test_symmetric(Results& r) {
  published(r);
  against_definition(r);
  samplers(r);
  packing(r);
  transposition(r);
}

}  // namespace aero
