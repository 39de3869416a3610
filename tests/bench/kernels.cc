// GMAC/s of the inner loops on one core, for each instruction set that this
// machine has, beside its dot products alone (the roof). All take turns, and
// the best of many runs counts, since others may use the machine.
//
//   kernels [REPETITIONS]
#include <algorithm>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <functional>
#include <string>
#include <vector>

#include "aligned.h"
#include "cpu/isa/isa.h"

#ifdef CVM_HAS_AVX512VNNI
#include <immintrin.h>
#endif

using namespace cvm;

namespace {

struct Shape {
  const char* name;
  int64_t side, in, out, kernel, stride;  // of a layer with side * side pixels of output
  bool depthwise;
};
constexpr Shape kShapes[] = {
    {"1x1 256-64 56", 56, 256, 64, 1, 1, false},    {"1x1 64-256 56", 56, 64, 256, 1, 1, false},
    {"3x3 64 56", 56, 64, 64, 3, 1, false},         {"3x3 128 28", 28, 128, 128, 3, 1, false},
    {"1x1 1024-256 14", 14, 1024, 256, 1, 1, false}, {"3x3 256 14", 14, 256, 256, 3, 1, false},
    {"1x1 512-2048 7", 7, 512, 2048, 1, 1, false},  {"3x3 512 7", 7, 512, 512, 3, 1, false},
    {"dense 2048-1000", 1, 2048, 1000, 1, 1, false}, {"dense 25088-4096", 1, 25088, 4096, 1, 1, false},
    {"depthwise 64 112", 112, 64, 64, 3, 1, true},  {"depthwise 128 s2 56", 56, 128, 128, 3, 2, true},
    {"depthwise 512 14", 14, 512, 512, 3, 1, true},
};

int64_t round_up(int64_t n, int64_t m) { return (n + m - 1) / m * m; }

// A layer whose every piece is one of the largest, with a usual epilogue after.
struct Layer {
  const Isa& isa;
  Shape s;
  int64_t width, depth, panels;
  AlignedBlock input, weights, output;
  std::vector<int32_t> constants;
  std::vector<int64_t> taps;
  std::vector<MapOp> ops;
  std::vector<const uint8_t*> pixels;  // of input

  Layer(const Isa& i, const Shape& shape)
      : isa(i), s(shape), width((s.side - 1) * s.stride + s.kernel), depth(s.kernel * s.kernel * s.in),
        panels((s.out + isa.panel - 1) / isa.panel), input(width * width * s.in),
        weights(s.depthwise ? isa.depthwise_bytes(s.in, 3, 3) : panels * isa.panel_bytes(depth)),
        output(s.side * s.side * s.out), constants(static_cast<size_t>(round_up(s.out, 64)), 7) {
    for (int64_t k = 0; k < width * width * s.in; ++k) input.data()[k] = static_cast<char>(k * 37 + (k >> 7));
    const auto weight = [](int64_t k) { return static_cast<int8_t>((k * 2654435761u >> 7) % 127 - 63); };
    if (s.depthwise) {
      std::vector<int8_t> rows(static_cast<size_t>(s.in * 9));
      for (size_t k = 0; k < rows.size(); ++k) rows[k] = weight(static_cast<int64_t>(k));
      isa.pack_depthwise(rows.data(), s.in, 3, 3, weights.data());
    }
    for (int64_t p = 0; !s.depthwise && p < panels; ++p) {
      std::vector<int8_t> rows(static_cast<size_t>(channels(p) * depth));
      for (size_t k = 0; k < rows.size(); ++k) rows[k] = weight(static_cast<int64_t>(k) + p);
      isa.pack(rows.data(), channels(p), depth, weights.data() + p * isa.panel_bytes(depth));
    }
    for (int64_t k = 0; k < s.side * s.side; ++k) pixels.push_back(pixel(k / s.side, k % s.side));
    for (int64_t t = 0; t < s.kernel; ++t) taps.push_back(t * width * s.in);
    using P = Primitive;
    for (P p : {P::kMul, P::kAdd, P::kFloorShift, P::kMax, P::kStore}) {
      MapOp op{p, p == P::kStore ? Operand::kTensor : Operand::kConstant};
      op.value = p == P::kFloorShift ? 9 : 0;
      if (p == P::kMul || p == P::kAdd) op.channels = constants.data();
      op.storage = Storage::kByte;
      ops.push_back(op);
    }
  }
  int64_t channels(int64_t panel) const { return std::min<int64_t>(isa.panel, s.out - panel * isa.panel); }
  double macs() const { return static_cast<double>(s.side * s.side * (s.depthwise ? 9 : depth) * s.out); }
  const uint8_t* pixel(int64_t y, int64_t x) const {
    return input.as<uint8_t>() + (y * width + x) * s.stride * s.in;
  }

  void run() const {
    char* places[1][kMaxPixels];
    Piece piece;
    piece.ops = ops.data(), piece.num_ops = static_cast<int>(ops.size()), piece.places = places, piece.slots = nullptr;
    s.depthwise ? run_depthwise(piece, places[0]) : run_conv(piece, places[0]);
  }
  void run_conv(const Piece& base, char** places) const {
    ConvPiece piece;
    static_cast<Piece&>(piece) = base;
    const uint8_t* in[kMaxPixels];
    std::vector<int16_t> wide(static_cast<size_t>(isa.conv_pixels * depth));
    piece.in = in, piece.taps = taps.data(), piece.num_taps = s.kernel, piece.run = s.kernel * s.in;
    for (int64_t p = 0; p < panels; ++p) {
      piece.channel = p * isa.panel, piece.channels = channels(p);
      piece.weights = weights.data() + p * isa.panel_bytes(depth);
      piece.bias = constants.data();
      for (int64_t first = 0; first < s.side * s.side; first += isa.conv_pixels) {
        piece.pixels = static_cast<int>(std::min<int64_t>(isa.conv_pixels, s.side * s.side - first));
        for (int i = 0; i < piece.pixels; ++i) {
          in[i] = pixels[static_cast<size_t>(first + i)];
          places[i] = output.data() + (first + i) * s.out;
        }
        Widened widened = {wide.data(), false};
        piece.widened = &widened;
        isa.conv(piece);
      }
    }
  }
  void run_depthwise(const Piece& base, char** places) const {
    DepthwisePiece piece;
    static_cast<Piece&>(piece) = base;
    const uint8_t* rows[3];
    piece.rows = rows, piece.kernel_h = piece.kernel_w = 3, piece.tap_step = s.in, piece.pixel_step = s.stride * s.in;
    piece.weights = weights.data(), piece.bias = constants.data();
    for (int64_t y = 0; y < s.side; ++y)
      for (int64_t x = 0; x < s.side; x += isa.depthwise_pixels) {
        piece.pixels = static_cast<int>(std::min<int64_t>(isa.depthwise_pixels, s.side - x));
        for (int i = 0; i < piece.pixels; ++i) places[i] = output.data() + (y * s.side + x + i) * s.out;
        for (int64_t a = 0; a < 3; ++a) rows[a] = pixel(y, x) + a * width * s.in;
        for (piece.channel = 0; piece.channel < s.in; piece.channel += isa.depthwise_channels) {
          piece.channels = std::min<int64_t>(isa.depthwise_channels, s.in - piece.channel);
          isa.depthwise(piece);
        }
      }
  }
};

// ---- roofs: twelve independent sums, operands in registers ------------------

constexpr int kSums = 12, kSteps = 40000;
volatile int32_t zero = 0;

#ifdef CVM_HAS_AVX512VNNI
#define CVM_ROOF(NAME, TARGET, TYPE, SET, STEP)                                    \
  [[gnu::target(TARGET)]] void NAME() {                                            \
    TYPE sums[kSums], x = SET(zero), w = x;                                        \
    for (auto& s : sums) s = x;                                                    \
    for (int k = 0; k < kSteps; ++k) {                                             \
      _Pragma("GCC unroll 12") for (int i = 0; i < kSums; ++i) {                   \
        sums[i] = STEP(sums[i], x, w);                                             \
        asm volatile("" : "+v"(x) : "v"(sums[i]));                                 \
      }                                                                            \
    }                                                                              \
  }
#define CVM_STEP256(s, x, w) \
  _mm256_add_epi32(s, _mm256_madd_epi16(_mm256_maddubs_epi16(x, w), _mm256_set1_epi16(1)))
#define CVM_STEP512(s, x, w) \
  _mm512_add_epi32(s, _mm512_madd_epi16(_mm512_maddubs_epi16(x, w), _mm512_set1_epi16(1)))
CVM_ROOF(roof_avx2, "avx2", __m256i, _mm256_set1_epi32, CVM_STEP256)
CVM_ROOF(roof_avx512, "avx512f,avx512bw", __m512i, _mm512_set1_epi32, CVM_STEP512)
CVM_ROOF(roof_avx512vnni, "avx512f,avx512vnni", __m512i, _mm512_set1_epi32, _mm512_dpbusd_epi32)
#endif

double seconds(const std::function<void()>& work) {
  const auto start = std::chrono::steady_clock::now();
  work();
  return std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
}

struct Column {
  const Isa* isa;
  void (*roof)();  // null: none known
  double roof_macs;
};

}  // namespace

int main(int argc, char** argv) {
  const int repetitions = argc > 1 ? std::atoi(argv[1]) : 30;
  std::vector<Column> columns;
  const auto offer = [&](const Isa& isa, void (*roof)(), int lanes) {
    if (isa.available()) columns.push_back({&isa, roof, 4.0 * lanes * kSums * kSteps});
  };
  offer(kScalar, nullptr, 0);
#ifdef CVM_HAS_AVX512VNNI
  offer(kAvx2, roof_avx2, 8);
  offer(kAvx512, roof_avx512, 16);
  offer(kAvx512Vnni, roof_avx512vnni, 16);
#endif
#ifdef CVM_HAS_NEON
  offer(kNeon, nullptr, 0);
#endif
#ifdef CVM_HAS_DOTPROD
  offer(kDotprod, nullptr, 0);
#endif
  std::printf("%-20s", "GMAC/s");
  for (const Column& c : columns) std::printf("%18s", c.isa->name);
  std::printf("\n");
  std::vector<double> roofs(columns.size(), 1e9);
  std::vector<std::string> lines;
  for (const Shape& shape : kShapes) {
    std::vector<Layer> layers;
    layers.reserve(columns.size());
    std::vector<double> best(columns.size(), 1e9);
    for (const Column& c : columns) layers.emplace_back(*c.isa, shape);
    for (int r = 0; r < repetitions; ++r)
      for (size_t k = 0; k < columns.size(); ++k) {
        if (columns[k].roof) roofs[k] = std::min(roofs[k], seconds(columns[k].roof));
        if (columns[k].roof || r < 2) best[k] = std::min(best[k], seconds([&] { layers[k].run(); }));
      }
    std::printf("%-20s", shape.name);
    for (size_t k = 0; k < columns.size(); ++k) {
      const double rate = layers[k].macs() / best[k] / 1e9;
      if (columns[k].roof)
        std::printf("%11.1f %5.1f%%", rate, 100 * rate / (columns[k].roof_macs / roofs[k] / 1e9));
      else
        std::printf("%18.1f", rate);
    }
    std::printf("\n");
    std::fflush(stdout);
  }
  std::printf("%-20s", "roof");
  for (size_t k = 0; k < columns.size(); ++k)
    std::printf("%11.1f %6s", columns[k].roof ? columns[k].roof_macs / roofs[k] / 1e9 : 0, "");
  std::printf("\n");
}
