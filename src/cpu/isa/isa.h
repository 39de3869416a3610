// The inner loops of one instruction set, as one table.
//
// Each call runs a small piece of a step on the calling thread: a few pixels
// times a few channels, whose int32 values stay in registers until the epilogue
// of the step has stored them. Loops over pieces, addresses and threads are the
// same for all instruction sets and lie outside (cpu/*_step.cc).
#pragma once

#include <cstdint>

#include "plan/step.h"

namespace cvm {

constexpr int kMaxPixels = 16;  // of a piece

// The epilogue of a piece and where its elements lie.
struct Piece {
  const MapOp* ops;
  int num_ops;
  int pixels;                             // 1..the most that the kernel takes
  int64_t channel, channels;              // first channel, and how many
  char* const (*places)[kMaxPixels];      // [tensor][pixel]: its channel 0
  int32_t* slots;                         // kSlotElements elements for each slot
};
constexpr int64_t kSlotElements = kMaxPixels * 64;

// v[i][c] = bias[c] + sum over taps t and k < run of
// (in[i][taps[t] + k] + byte_offset) * weight[c][t * run + k], in = unsigned bytes.
// Up to 3 bytes after the last real byte of a run are read and multiplied by 0.
struct Widened;
struct ConvPiece : Piece {
  const uint8_t* const* in;  // per pixel
  const int64_t* taps;       // bytes
  int64_t num_taps;
  int64_t run;               // bytes; a multiple of 4
  const void* weights;     // packed panel, from pack()
  const int32_t* bias;     // of the panel's channels, padded to the panel
  Widened* widened = nullptr;  // if the instruction set widens
};

// The inputs of the pixels of a piece in 16 bits, made when a panel first needs them; panels deeper
// than kMaxWidened never do.
constexpr int64_t kMaxWidened = 1 << 16;
struct Widened {
  int16_t* inputs;  // [pixel][tap][k]
  bool valid;       // false where other pixels begin
};

// v[i][c] = bias[channel + c] + sum over a, b of
// (rows[a][i * pixel_step + b * tap_step + channel + c] + byte_offset) * weight
struct DepthwisePiece : Piece {
  const uint8_t* const* rows;  // per kernel row: channel 0 of the first pixel's first tap
  int kernel_h, kernel_w;
  int64_t pixel_step, tap_step;  // bytes
  const void* weights;           // packed for all channels, from pack_depthwise()
  const int32_t* bias;           // from channel 0, padded to kChannelPadding
};

// v[i][c] = maximum or sum over taps of the codes in[i][taps[t] + channel + c]
struct WindowPiece : Piece {
  bool sums;
  Storage storage;
  const char* const* in;  // per pixel: channel 0 of the first tap
  const int64_t* taps;    // bytes
  int64_t num_taps;
};

struct Isa {
  const char* name;
  bool (*available)();
  int byte_offset;       // of a ConvPiece and a DepthwisePiece
  bool widens;           // whether a ConvPiece has to have Widened
  int conv_pixels;       // most pixels of a ConvPiece
  int panel;             // channels of a ConvPiece
  int map_pixels, map_channels;              // most of a map or window piece
  // Most of a DepthwisePiece; channels are cut at multiples.
  int depthwise_pixels, depthwise_channels;

  // Packed size in bytes of one panel of that depth (a multiple of 4), and packing: `rows` holds
  // `channels` <= panel rows of `depth` weights; missing channels are zero.
  int64_t (*panel_bytes)(int64_t depth);
  void (*pack)(const int8_t* rows, int64_t channels, int64_t depth, void* to);
  // Weights of all channels, given as [channel][kernel_h][kernel_w].
  int64_t (*depthwise_bytes)(int64_t channels, int kernel_h, int kernel_w);
  void (*pack_depthwise)(const int8_t* weights, int64_t channels, int kernel_h, int kernel_w,
                         void* to);

  void (*conv)(const ConvPiece&);
  void (*depthwise)(const DepthwisePiece&);
  void (*window)(const WindowPiece&);
  void (*map)(const Piece&);  // the epilogue starts with kLoad
};

// The best one that this machine has, or the one that CVM_ISA names (runtime
// error when it is unknown or not available). Decided when first asked.
const Isa& isa();

extern const Isa kScalar;
extern const Isa kAvx2, kAvx512, kAvx512Vnni, kAvxVnni;  // defined where the compiler has them
extern const Isa kNeon, kDotprod;

}  // namespace cvm
