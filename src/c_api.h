/* C interface of the CVM runtime: integer-only inference with identical bits
 * on every machine.
 *
 * Every function returns a status, and writes its out-parameters only on
 * success:
 *   0  success
 *   1  logic error: the model or the request is wrong; the same on every node
 *   2  runtime error: this machine, or a file that cannot be read at all
 * No function throws, prints, or ends the process. After a failure
 * CVMGetLastError() returns one sentence that says what was found, what was
 * expected, and where.
 *
 * Functions may be called from any thread. One model handle may serve several
 * threads at once; freeing it while a call uses it is the caller's mistake.
 *
 * A process may fork at any time: the child can use, and has to free, models
 * that its parent loaded, and starts threads of its own when it needs them.
 */
#ifndef CVM_C_API_H_
#define CVM_C_API_H_

#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

#define CVM_API __attribute__((visibility("default")))

/* Device codes of CVMAPILoadModel. */
#define CVM_DEVICE_CPU 0
#define CVM_DEVICE_GPU 1    /* not built into this library: status 2 */
#define CVM_DEVICE_FORMAL 2 /* reference kernels, one thread */

/* ---- Models ------------------------------------------------------------- */

/* Loads and verifies a model from the bytes of its two files. The bytes are
 * copied, no terminator is needed. *net is owned by the caller and freed with
 * CVMAPIFreeModel. device_id selects the GPU and is ignored elsewhere. */
CVM_API int CVMAPILoadModel(const char* graph_json, int graph_strlen, const char* param_bytes,
                            int param_strlen, void** net, int device_type, int device_id);

/* Releases a model; null does nothing. */
CVM_API int CVMAPIFreeModel(void* net);

/* Runs the model. The input has exactly CVMAPIGetInputLength bytes, values
 * outside the input's range are clamped; exactly CVMAPIGetOutputLength bytes
 * are written. Elements are little-endian. Null pointers: status 2. */
CVM_API int CVMAPIInference(void* net, char* input_data, int input_len, char* output_data);

/* The version text with terminator; the buffer has at least 34 bytes. */
CVM_API int CVMAPIGetVersion(void* net, char* version);

/* The postprocess text ("" if none), at most 32 bytes of it, with terminator;
 * the buffer has at least 34 bytes. The name is historical. */
CVM_API int CVMAPIGetPreprocessMethod(void* net, char* method);

/* Bytes of one input and of one output. */
CVM_API int CVMAPIGetInputLength(void* net, unsigned long long* size);
CVM_API int CVMAPIGetOutputLength(void* net, unsigned long long* size);

/* Bytes per element of input and output: 1 or 4. */
CVM_API int CVMAPIGetInputTypeSize(void* net, unsigned long long* size);
CVM_API int CVMAPIGetOutputTypeSize(void* net, unsigned long long* size);

/* Bytes of all storage slots that the model file declares. */
CVM_API int CVMAPIGetStorageSize(void* net, unsigned long long* size);

/* Cost of one inference, of a loaded model or of a zero-terminated symbol. */
CVM_API int CVMAPIGetGasFromModel(void* net, unsigned long long* gas);
CVM_API int CVMAPIGetGasFromGraphFile(const char* graph_json, unsigned long long* gas);

/* ---- Arrays and params files -------------------------------------------- */

/* A dense array. Arrays passed to these functions must come from
 * CVMArrayAlloc or CVMLoadParamsDict. */
typedef struct {
  void* data;
  struct {
    int32_t device_type; /* 1 cpu, 3 formal: not the codes of CVMAPILoadModel */
    int32_t device_id;
  } ctx;
  int32_t ndim;
  struct {
    uint8_t code; /* 0 int, 1 uint, 2 float */
    uint8_t bits;
    uint16_t lanes;
  } dtype;
  int64_t* shape;
  int64_t* strides; /* always null: row-major */
  uint64_t byte_offset;
} CVMArray;

typedef CVMArray* CVMArrayHandle;
typedef void* CVMStreamHandle;

/* Allocates an uninitialised array, owned by the caller. */
CVM_API int CVMArrayAlloc(const int64_t* shape, int ndim, int dtype_code, int dtype_bits,
                          int dtype_lanes, int device_type, int device_id, CVMArrayHandle* out);
CVM_API int CVMArrayFree(CVMArrayHandle handle);

/* nbytes must equal the size of the array, else status 2. */
CVM_API int CVMArrayCopyFromBytes(CVMArrayHandle handle, void* data, uint64_t nbytes);
CVM_API int CVMArrayCopyToBytes(CVMArrayHandle handle, void* data, uint64_t nbytes);

/* Arrays of equal size in bytes, else status 2; stream is ignored. */
CVM_API int CVMArrayCopyFromTo(CVMArrayHandle from, CVMArrayHandle to, CVMStreamHandle stream);

typedef struct {
  const char* data;
  uint64_t size;
} CVMByteArray;

/* The bytes of a params file. `params` alternates name (a C string) and array
 * handle; num_params counts both, so it is even. The bytes belong to the
 * calling thread and stay valid until its next call of this function. */
CVM_API int CVMSaveParamsDict(const void** params, int num_params, CVMByteArray* out);

/* Reads a params file. The names and the list of handles belong to the calling
 * thread until its next call of this function; every array in the list is
 * owned by the caller. */
CVM_API int CVMLoadParamsDict(const char* data, int datalen, int* num, const char*** names,
                              void*** values);

/* target[...] = value, and target = source for one type (else 1) and size (else 2). */
CVM_API int CVMAssignAllScalar(CVMArrayHandle target, double value);
CVM_API int CVMAssignAllND(CVMArrayHandle target, CVMArrayHandle source);

/* Strided assignment. `indices` are ndim starts, ends, steps and sizes, in all
 * 4 * ndim integers; the ends are ignored. Element i of axis k is at start +
 * i * step, i < size; all of them must lie inside (else status 1). The source
 * has as many elements, in the same order, and is converted to the target's
 * type. */
CVM_API int CVMAssignSliceScalar(CVMArrayHandle target, int* indices, double value);
CVM_API int CVMAssignSliceND(CVMArrayHandle target, int* indices, CVMArrayHandle source);

/* ---- Beyond the original ------------------------------------------------ */

/* Text of the calling thread's last failure, "" before any. Valid until the
 * thread's next failure. */
CVM_API const char* CVMGetLastError(void);

/* Version of this library, such as "0.1.0". Static. */
CVM_API const char* CVMGetLibraryVersion(void);

/* Facts of one tensor. Shapes have 1 to 6 extents. */
typedef struct {
  int32_t ndim;
  int32_t precision; /* values lie in -(2^(p-1)-1) .. 2^(p-1)-1 */
  int64_t shape[6];
} CVMTensorInfo;

/* Facts of one node. The texts belong to the model; they are those of the file,
 * control characters and all. */
typedef struct {
  const char* name;
  const char* op; /* "null" for a variable */
  unsigned long long gas;
  int32_t num_inputs;
  int32_t num_outputs;
} CVMNodeInfo;

CVM_API int CVMModelGetInput(void* net, CVMTensorInfo* info);
CVM_API int CVMModelGetNumOutputs(void* net, int* num);
CVM_API int CVMModelGetOutput(void* net, int index, CVMTensorInfo* info);
CVM_API int CVMModelGetNumNodes(void* net, int* num);
CVM_API int CVMModelGetNode(void* net, int node, CVMNodeInfo* info);
CVM_API int CVMModelGetNodeOutput(void* net, int node, int index, CVMTensorInfo* info);

/* The same of all outputs, of all nodes, and of the outputs of all nodes, one
 * after the other; and the nodes whose outputs these read, again of all nodes
 * in a row. A model may have millions. */
CVM_API int CVMModelGetOutputs(void* net, CVMTensorInfo* infos);
CVM_API int CVMModelGetNodes(void* net, CVMNodeInfo* infos);
CVM_API int CVMModelGetNodeOutputs(void* net, CVMTensorInfo* infos);
CVM_API int CVMModelGetNodeInputs(void* net, int32_t* nodes);

/* Bytes of working memory of one run: what the arena needs, not what the file
 * declares. */
CVM_API int CVMModelGetArenaSize(void* net, unsigned long long* size);

/* Runs on int32 values: `count` input elements (values outside the input's
 * range are clamped), and one buffer per output, without any postprocess. With
 * node_seconds, which has one item per node, also stores the time each took. */
CVM_API int CVMModelRun(void* net, const int32_t* input, uint64_t count, int32_t* const* outputs,
                        double* node_seconds);

/* The same on elements of another type, where they are: dtype_code as in
 * CVMArray, of 8, 16, 32 or 64 bits, floating-point of 32 or 64. A
 * floating-point element that is no integer: status 1. */
CVM_API int CVMModelRunTyped(void* net, const void* input, int dtype_code, int dtype_bits,
                             uint64_t count, int32_t* const* outputs, double* node_seconds);

/* Most threads of each run; 0 takes as many as CVMGetMaxThreads says. Results do
 * not depend on it. Runs under way are not affected. */
CVM_API int CVMModelSetThreads(void* net, int threads);
CVM_API int CVMModelGetThreads(void* net, int* threads);

/* ---- The process --------------------------------------------------------- */

/* Most threads that compute at once in this process; 0 sets one per processor, more
 * than 256 count as 256. All models share them: every call computes on its own thread, and
 * gets help from what is left, which is divided fairly. Where more threads call
 * at once, each computes alone. Until this is called, the environment variable
 * CVM_MAX_THREADS decides, or the number of processors. */
CVM_API int CVMSetMaxThreads(int threads);
CVM_API int CVMGetMaxThreads(int* threads);

/* Each run that goes on at the same time needs working memory of its own. A
 * model keeps it for the next run: as much as there are runs under way, and at
 * least for this number of runs, 0 or more. Until this is called, the environment
 * variable CVM_IDLE_CONTEXTS decides, or 1. */
CVM_API int CVMSetIdleContexts(int count);
CVM_API int CVMGetIdleContexts(int* count);

#ifdef __cplusplus
}
#endif

#endif /* CVM_C_API_H_ */
