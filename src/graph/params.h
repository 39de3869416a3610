// The params file: named tensors.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "shape.h"

namespace cvm {

struct ParamTensor {
  std::string name;
  int32_t device_type = 1;
  uint8_t type_code = 0, bits = 0;
  uint16_t lanes = 1;
  Shape shape;
  const char* data = nullptr;  // into the text that was parsed
  int64_t bytes = 0;
  size_t offset = 0;           // of the tensor's record, for messages
};

// Every length is checked against the bytes that are left before it is used.
std::vector<ParamTensor> parse_params(const char* data, size_t length);

// The bytes of a params file; inverse of parse_params.
std::string format_params(const std::vector<ParamTensor>& tensors);

}  // namespace cvm
