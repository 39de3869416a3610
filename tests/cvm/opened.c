/* A node that opens the library at run time, as the Go binding does, and looks
 * every function up by name. argv[1] is the library; the other arguments and
 * the output are those of classic.c. */
#include <dlfcn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static void* library;

/* Stores the function in a pointer of its type: ISO C has no cast for that. */
static void find(const char* name, void* pointer) {
  void* function = dlsym(library, name);
  if (!function) exit(2);
  memcpy(pointer, &function, sizeof function);
}

static unsigned long long number(const char* name, void* net) {
  int (*get)(void*, unsigned long long*);
  unsigned long long value;
  find(name, &get);
  if (get(net, &value)) exit(8);
  return value;
}

static void text(const char* name, void* net, char* to) {
  int (*get)(void*, char*);
  find(name, &get);
  if (get(net, to)) exit(8);
}

static char* read_file(const char* path, int* length) {
  FILE* f = fopen(path, "rb");
  char* data = calloc(1, 1 << 20);
  if (!f || !data) exit(9);
  *length = (int)fread(data, 1, (1 << 20) - 1, f);
  fclose(f);
  return data;
}

int main(int argc, char** argv) {
  int (*load)(const char*, int, const char*, int, void**, int, int);
  int (*infer)(void*, char*, int, char*);
  int (*release)(void*);
  int lengths[3], i;
  char version[34], method[34], *files[3], *output;
  unsigned long long out, k;
  void* net = NULL;
  if (argc != 5) return 9;
  library = dlopen(argv[1], RTLD_NOW | RTLD_GLOBAL);
  if (!library) return 2;
  for (i = 0; i < 3; ++i) files[i] = read_file(argv[i + 2], &lengths[i]);
  find("CVMAPILoadModel", &load);
  find("CVMAPIInference", &infer);
  find("CVMAPIFreeModel", &release);
  i = load(files[0], lengths[0], files[1], lengths[1], &net, 0, 0);
  if (i) return i;
  text("CVMAPIGetVersion", net, version);
  text("CVMAPIGetPreprocessMethod", net, method);
  out = number("CVMAPIGetOutputLength", net);
  output = malloc(out);
  i = infer(net, files[2], lengths[2], output);
  if (i) return i;
  printf("%s [%s] %llu %llu", version, method, number("CVMAPIGetInputLength", net), out);
  printf(" %llu", number("CVMAPIGetInputTypeSize", net));
  printf(" %llu", number("CVMAPIGetOutputTypeSize", net));
  printf(" %llu", number("CVMAPIGetStorageSize", net));
  printf(" %llu", number("CVMAPIGetGasFromModel", net));
  printf(" %llu:", number("CVMAPIGetGasFromGraphFile", files[0]));
  for (k = 0; k < out; ++k) printf(" %d", output[k]);
  printf("\n");
  for (i = 0; i < 3; ++i) free(files[i]);
  free(output);
  return release(net) || dlclose(library);
}
