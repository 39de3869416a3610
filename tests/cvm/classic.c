/* A node that knows only the original's functions: loads argv[1] and argv[2],
 * runs the input bytes of argv[3], prints sizes, cost and output. */
#include <stdio.h>
#include <stdlib.h>

#include "c_api.h"

static char* read_file(const char* path, int* length) {
  FILE* f = fopen(path, "rb");
  char* data = malloc(1 << 20);
  if (!f || !data) exit(9);
  *length = (int)fread(data, 1, (1 << 20) - 1, f);
  data[*length] = 0;
  fclose(f);
  return data;
}

int main(int argc, char** argv) {
  int symbol_length, params_length, input_length, status;
  unsigned long long in, out, in_type, out_type, storage, gas, file_gas, i;
  char version[34], method[34], *symbol, *params, *input, *output;
  void* net = NULL;
  if (argc != 4) return 9;
  symbol = read_file(argv[1], &symbol_length);
  params = read_file(argv[2], &params_length);
  input = read_file(argv[3], &input_length);
  status = CVMAPILoadModel(symbol, symbol_length, params, params_length, &net, 0, 0);
  if (status) return status;
  if (CVMAPIGetVersion(net, version) || CVMAPIGetPreprocessMethod(net, method)) return 8;
  if (CVMAPIGetInputLength(net, &in) || CVMAPIGetOutputLength(net, &out)) return 8;
  if (CVMAPIGetInputTypeSize(net, &in_type) || CVMAPIGetOutputTypeSize(net, &out_type)) return 8;
  if (CVMAPIGetStorageSize(net, &storage) || CVMAPIGetGasFromModel(net, &gas)) return 8;
  if (CVMAPIGetGasFromGraphFile(symbol, &file_gas)) return 8;
  output = malloc(out);
  status = CVMAPIInference(net, input, input_length, output);
  if (status) return status;
  printf("%s [%s] %llu %llu %llu %llu %llu %llu %llu:", version, method, in, out, in_type, out_type,
         storage, gas, file_gas);
  for (i = 0; i < out; ++i) printf(" %d", output[i]);
  printf("\n");
  free(output), free(symbol), free(params), free(input);
  return CVMAPIFreeModel(net);
}
