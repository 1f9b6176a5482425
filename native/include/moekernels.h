/**
 * @file moekernels.h
 * @brief MoEKernels: fused kernels for mixture-of-LoRA-experts and mixture-of-experts layers. The C ABI.
 *
 * Conventions that hold for every function and field
 *
 * Dimensions    T tokens, d_in input width, d_out output width, r rank, E experts, k active experts (or ranks).
 *
 * Layout        Every matrix is row-major. `X [T, d_in]` has T rows of d_in contiguous elements; its `*_stride` is the
 *               distance between two rows in elements, 0 means "dense" (the number of columns). A stride smaller than
 *               the number of columns is an error. Vectors, ids, counts and saved tensors are dense.
 *
 * Dtypes        Stated per role with the values of ::moek_dtype. The legal combinations of
 *               (x, weight, router, y, grad) are
 *                 f32  f32  f32  f32  f32
 *                 bf16 bf16 bf16 bf16 bf16
 *                 f16  f16  f16  f16  f16
 *                 f64  f64  f64  f64  f64     (CPU only; for gradient checks)
 *                 bf16 f32  f32  bf16 f32     (mixed precision: f32 master adapters under bf16 activations)
 *                 f16  f32  f32  f16  f32
 *               x, dx, router_input and drouter_input have x's dtype, y and dy have y's, A, B and C have weight's, W_r
 *               and W_g router's, and dA, dB, dC, dW_r and dW_g grad's. Ids and counts are int32. Gate weights, biases,
 *               log-sum-exp and everything saved for backward are f32, or f64 where x is f64 ("accumulator dtype").
 *
 * Rounding      Sums run in the accumulator dtype; nothing between two products is rounded to the storage dtype, a
 *               result is rounded once when it is written. A tensor-core operand (CUDA, bf16/f16) is rounded once when
 *               it is built.
 *
 * Determinism   Same inputs, same bits, on every run and for every thread count, per ISA path or GPU model.
 *
 * Optional      A pointer marked "optional" may be null; the op then neither reads nor writes that tensor.
 *
 * Memory        The caller owns every buffer. No op allocates on a device, synchronises or keeps global state. Outputs
 *               must not overlap inputs or each other. CPU contexts take host pointers, CUDA contexts device pointers of
 *               that context's device, from ::moek_memory_allocate or from whoever else; element alignment suffices.
 *
 * Workspace     `*_workspace` tells the bytes a call needs, at any alignment; contents are undefined before and after.
 *               When it is 0 a null pointer is legal.
 *
 * Stream        Null on the CPU. On CUDA a `cudaStream_t`, from ::moek_stream_create or from whoever else; null is the
 *               legacy default stream. A call returns once its work is queued; an error that the work meets surfaces at a
 *               later call.
 *
 * Graphs        On CUDA every op, ::moek_memory_set, ::moek_memory_copy between device addresses, ::moek_event_record and
 *               ::moek_stream_wait_event can be captured, see ::moek_graph_capture_begin. Illegal during a capture, from
 *               the capturing thread: whatever waits or allocates, that is ::moek_memory_allocate, ::moek_memory_free,
 *               ::moek_memory_copy to or from the host, ::moek_stream_synchronize on a stream of the capture,
 *               ::moek_event_synchronize and ::moek_event_elapsed; and ::moek_graph_launch, and everything on the
 *               default stream.
 *
 * T = 0         Legal, also with null pointers for what has no elements then: per-token outputs are left alone, weight
 *               gradients and counts are written as zeros unless accumulating.
 *
 * Ties          Higher score first, then the lower id. -0 equals +0.
 *
 * NaN           A NaN or -inf score never wins over another and weighs nothing; every row yields k distinct ids in
 *               range. A row without any finite or +inf score has zero weights, zero gradients and a log-sum-exp of
 *               -inf. With ::MOEK_CALL_FLAG_STRICT a NaN in a score is reported as ::MOEK_STATUS_CODE_NUMERIC instead.
 *
 * Errors        Arguments are checked before anything is written. A failing call returns a status other than
 *               ::MOEK_STATUS_CODE_OK; ::moek_last_error then names the argument, what was got and what was expected.
 *
 * Growth        The first field of every struct is `struct_size`. A smaller value than this header's means that the
 *               missing fields are zero, which is their default; a larger one is accepted if the unknown tail is zero.
 *               Reserved fields must be zero.
 */
#ifndef MOEKERNELS_H
#define MOEKERNELS_H

#include <stdint.h>

#if defined(_WIN32)
#if defined(MOEKERNELS_BUILD)
#define MOEK_API __declspec(dllexport)
#else
#define MOEK_API __declspec(dllimport)
#endif
#elif defined(__GNUC__)
#define MOEK_API __attribute__((visibility("default")))
#else
#define MOEK_API
#endif

#ifdef __cplusplus
extern "C" {
#endif

/** Version of this ABI; raised with every change that an older caller could notice. */
#define MOEK_ABI_VERSION 1
/** Largest number of experts (or ranks to choose from) a gate accepts. */
#define MOEK_MAX_EXPERTS 4096
/** Bytes of a device name, the terminating zero included. */
#define MOEK_NAME_SIZE 128

/** Result of a call: one of the values of ::moek_status_code. */
typedef int32_t moek_status;

/** Values of ::moek_status. */
typedef enum moek_status_code {
    MOEK_STATUS_CODE_OK = 0,               /**< The call did what it says. */
    MOEK_STATUS_CODE_INVALID_ARGUMENT = 1, /**< An argument is out of its range; nothing was written. */
    MOEK_STATUS_CODE_UNSUPPORTED = 2,      /**< Legal, but not offered by this backend or build; nothing was written. */
    MOEK_STATUS_CODE_WORKSPACE_TOO_SMALL = 3, /**< The workspace is smaller than its query says; nothing was written. */
    MOEK_STATUS_CODE_OUT_OF_MEMORY = 4,       /**< The host or the device ran out of memory. */
    MOEK_STATUS_CODE_BACKEND_UNAVAILABLE = 5, /**< The backend's library or device cannot be used; the text says why. */
    MOEK_STATUS_CODE_DEVICE = 6,              /**< The device reported an error; the text holds its code. */
    MOEK_STATUS_CODE_NUMERIC = 7,             /**< A strict call met a NaN; nothing was written. */
    MOEK_STATUS_CODE_INTERNAL = 8             /**< A defect of this library. */
} moek_status_code;

/** Element types. */
typedef enum moek_dtype {
    MOEK_DTYPE_F32 = 0,  /**< IEEE binary32. */
    MOEK_DTYPE_BF16 = 1, /**< bfloat16: the upper half of a binary32, rounded to nearest even. */
    MOEK_DTYPE_F16 = 2,  /**< IEEE binary16. */
    MOEK_DTYPE_F64 = 3   /**< IEEE binary64. */
} moek_dtype;

/** Kinds of device a context can run on. */
typedef enum moek_device_type {
    MOEK_DEVICE_TYPE_CPU = 0, /**< The host's processor. */
    MOEK_DEVICE_TYPE_CUDA = 1 /**< An NVIDIA GPU, through the library `moekernels_cuda`. */
} moek_device_type;

/** Instruction sets of the CPU backend. */
typedef enum moek_isa {
    MOEK_ISA_AUTO = 0,   /**< The best one that this processor has. */
    MOEK_ISA_SCALAR = 1, /**< What the compiler's baseline target has (SSE2 on x86-64). */
    MOEK_ISA_AVX2 = 2,   /**< AVX2, FMA and F16C. */
    MOEK_ISA_AVX512 = 3, /**< AVX-512 F, BW, DQ and VL. */
    MOEK_ISA_NEON = 4,   /**< Advanced SIMD of 64-bit Arm. */
    /** MOEK_ISA_AVX512, and VDPBF16PS for products of two bf16 matrices. It takes bf16 numbers below 2^-126 for zeros. */
    MOEK_ISA_AVX512_BF16 = 5
} moek_isa;

/** Severity of a log message. */
typedef enum moek_log_level {
    MOEK_LOG_LEVEL_TRACE = 0,
    MOEK_LOG_LEVEL_DEBUG = 1,
    MOEK_LOG_LEVEL_INFORMATION = 2,
    MOEK_LOG_LEVEL_WARNING = 3,
    MOEK_LOG_LEVEL_ERROR = 4
} moek_log_level;

/** Bits of the field `flags` of every op's struct. */
typedef enum moek_call_flag {
    MOEK_CALL_FLAG_NONE = 0,
    /** Add to the per-token output (y; in backward dx, drouter_input, dlogits) instead of overwriting it. */
    MOEK_CALL_FLAG_ACCUMULATE_OUTPUT = 1,
    /** Add to the weight gradients instead of overwriting them. */
    MOEK_CALL_FLAG_ACCUMULATE_GRADIENTS = 2,
    /** Add to `counts` instead of overwriting it. */
    MOEK_CALL_FLAG_ACCUMULATE_COUNTS = 4,
    /** A token's result depends neither on its neighbours nor on T. */
    MOEK_CALL_FLAG_BATCH_INVARIANT = 8,
    /** Report a NaN score as an error instead of treating it as -inf. */
    MOEK_CALL_FLAG_STRICT = 16,
    /** Let f32 products run on TF32 tensor cores (CUDA; ignored on the CPU). */
    MOEK_CALL_FLAG_ALLOW_TF32 = 32
} moek_call_flag;

/** How router logits z become scores s. */
typedef enum moek_gate_score {
    MOEK_GATE_SCORE_SOFTMAX = 0, /**< s = softmax(z / temperature) over all E. */
    MOEK_GATE_SCORE_SIGMOID = 1, /**< s = 1 / (1 + exp(-z / temperature)). */
    MOEK_GATE_SCORE_IDENTITY = 2 /**< s = z / temperature. */
} moek_gate_score;

/** Which experts a row keeps. */
typedef enum moek_gate_select {
    MOEK_GATE_SELECT_TOP_K = 0, /**< The k largest selection scores. */
    MOEK_GATE_SELECT_ALL = 1    /**< All E, in their order: a dense ("soft") gate; k is 0 or E. */
} moek_gate_select;

/** What a per-expert bias is added to. */
typedef enum moek_bias_mode {
    MOEK_BIAS_MODE_NONE = 0,      /**< No bias; the pointer must be null. */
    MOEK_BIAS_MODE_SELECTION = 1, /**< The selection score only; weights use the plain score (DeepSeek-V3). */
    MOEK_BIAS_MODE_WEIGHT = 2     /**< Selection and weight (SMoRA). */
} moek_bias_mode;

/** How the selected scores become weights. */
typedef enum moek_gate_normalize {
    MOEK_GATE_NORMALIZE_NONE = 0,       /**< w = s. */
    MOEK_GATE_NORMALIZE_SUM_TO_ONE = 1, /**< w = s / (sum + eps). */
    MOEK_GATE_NORMALIZE_SUM_TO_K = 2    /**< w = k s / (sum + eps). */
} moek_gate_normalize;

/** Target of a load-bias update. */
typedef enum moek_bias_target {
    MOEK_BIAS_TARGET_MEAN = 0, /**< The mean of the counts (SMoRA, DeepSeek-V3). */
    MOEK_BIAS_TARGET_VALUE = 1 /**< The field `target`. */
} moek_bias_target;

/** Where rank_lora's per-rank gates come from. */
typedef enum moek_rank_gate {
    /** A router: z = W_r x~, then the maths of ::moek_gate_args with top-k selection (SMoRA, Split-LoRA). */
    MOEK_RANK_GATE_ROUTER = 0,
    /** `ids` and `gates` are inputs. */
    MOEK_RANK_GATE_CALLER = 1,
    /** The k largest a + bias with a = A x~; every gate is 1 (FlyLoRA, the signed form). */
    MOEK_RANK_GATE_ACTIVATION_SIGNED = 2,
    /** The k largest |a + bias|; every gate is 1 (FlyLoRA, the absolute form). */
    MOEK_RANK_GATE_ACTIVATION_ABSOLUTE = 3,
    /** w = softmax(a / (|a|_2 + eps) / temperature) over all r; the k largest w that are >= threshold (MoRA). */
    MOEK_RANK_GATE_ACTIVATION_SOFTMAX = 4
} moek_rank_gate;

/** Storage of rank_lora's and core_merge's B and dB. */
typedef enum moek_b_layout {
    MOEK_B_LAYOUT_OUT_BY_RANK = 0, /**< [d_out, r], as in a linear layer. */
    MOEK_B_LAYOUT_RANK_BY_OUT = 1  /**< [r, d_out]: rank-major. */
} moek_b_layout;

/** Where core_merge's mixing weights come from. */
typedef enum moek_core_router {
    MOEK_CORE_ROUTER_CORE = 0,  /**< p = softmax(W_g u / temperature), W_g [E, r]. */
    MOEK_CORE_ROUTER_INPUT = 1, /**< p = softmax(W_g x / temperature), W_g [E, d_in]; x without dropout. */
    MOEK_CORE_ROUTER_CALLER = 2 /**< `p` is an input. */
} moek_core_router;

/** Independent streams of the dropout generator within one (seed, offset). */
typedef enum moek_dropout_stream {
    MOEK_DROPOUT_STREAM_INPUT = 0, /**< The mask on x. */
    MOEK_DROPOUT_STREAM_CORE = 1   /**< The mask on core_merge's v. */
} moek_dropout_stream;

/** Between which memories ::moek_memory_copy copies. */
typedef enum moek_copy_kind {
    MOEK_COPY_KIND_HOST_TO_DEVICE = 0,  /**< From host memory to memory of the context's device. */
    MOEK_COPY_KIND_DEVICE_TO_HOST = 1,  /**< From memory of the context's device to host memory. */
    MOEK_COPY_KIND_DEVICE_TO_DEVICE = 2 /**< Within the context's device. */
} moek_copy_kind;

/** A device, its options and, on the CPU, its threads. Immutable; may be used from several threads at once. */
typedef struct moek_context moek_context;

/** A point in a stream's work and the time it was reached. Belongs to one context. */
typedef struct moek_event moek_event;

/** Captured work that can be launched again and again. Belongs to one context. */
typedef struct moek_graph moek_graph;

/**
 * Receives a log message.
 * @param level   one of ::moek_log_level
 * @param message UTF-8, zero-terminated, valid during the call only
 * @param length  bytes of the message without the zero
 * @param user    the pointer given with the callback
 */
typedef void (*moek_log_callback)(int32_t level, const char* message, uint64_t length, void* user);

/**
 * Lends threads to a context: calls `body` with `data` on up to `thread_count` threads at once, the calling one among
 * them, and returns when all calls have returned. Fewer threads, down to the calling one alone, change no result.
 * GOMP_parallel of GNU's OpenMP library is such a function.
 * @param body         what to call; throws nothing
 * @param data         its argument
 * @param thread_count most threads, 2 or more
 * @param flags        0
 */
typedef void (*moek_parallel_callback)(void (*body)(void* data), void* data, uint32_t thread_count, uint32_t flags);

/** Options of ::moek_context_create. All zero is the default: the CPU with all its cores. */
typedef struct moek_context_options {
    uint32_t struct_size;     /**< sizeof(moek_context_options). */
    int32_t device_type;      /**< One of ::moek_device_type. */
    int32_t device_index;     /**< Which device of that type; 0 on the CPU. */
    int32_t thread_count;     /**< CPU threads, the calling one included; 0: one per core this process may use. */
    int32_t isa;              /**< One of ::moek_isa. One that the processor lacks is an error. */
    int32_t log_level;        /**< Least severity reported, one of ::moek_log_level. */
    moek_log_callback log;    /**< Optional. May be called from any thread. */
    void* log_user;           /**< Passed to `log`. */
    const char* cuda_library; /**< Optional: full path of the CUDA library, UTF-8; null: what the environment variable
                                   MOEKERNELS_CUDA_LIBRARY says, else beside this library. */
    moek_parallel_callback
        parallel;         /**< Optional: threads of somebody else's, used instead of own ones. A program whose
                                          other library keeps a pool of threads awake shares that, instead of having two
                                          pools take the cores from each other. Not on CUDA. */
    uint64_t reserved[3]; /**< Zero. */
} moek_context_options;

/** What a context turned out to be. */
typedef struct moek_context_info {
    uint32_t struct_size; /**< [in] sizeof(moek_context_info). */
    int32_t device_type;  /**< One of ::moek_device_type. */
    int32_t device_index; /**< Index of the device. */
    int32_t thread_count; /**< CPU threads, the calling one included; 0 on a GPU. */
    int32_t isa;          /**< The instruction set in use, one of ::moek_isa; 0 on a GPU. */
    int32_t reserved0;    /**< Zero. */
    uint64_t reserved[4]; /**< Zero. */
} moek_context_info;

/** A device as ::moek_device_query describes it. */
typedef struct moek_device_info {
    uint32_t struct_size;      /**< [in] sizeof(moek_device_info). */
    int32_t device_type;       /**< One of ::moek_device_type. */
    int32_t device_index;      /**< Index of the device. */
    int32_t core_count;        /**< Logical processors, or streaming multiprocessors. */
    int32_t capability_major;  /**< CUDA compute capability; 0 on the CPU. */
    int32_t capability_minor;  /**< CUDA compute capability; 0 on the CPU. */
    uint64_t total_memory;     /**< Bytes; 0 when unknown. */
    char name[MOEK_NAME_SIZE]; /**< UTF-8, zero-terminated. */
    uint64_t reserved[4];      /**< Zero. */
} moek_device_info;

/**
 * Gate: router logits to expert ids and weights.
 *
 * Forward, per token, z = logits (NaN as -inf):
 *   s = score(z / temperature);  c = s + bias (bias_mode SELECTION or WEIGHT) else s
 *   ids = the k largest c;  v = c at ids (WEIGHT) else s at ids
 *   weights = weight_scale * normalize(v);  lse = log sum_e exp(z_e / temperature);  counts = histogram of ids
 * Backward, given dweights and optionally dlse: the gradient to the logits. Selection is constant. What comes from
 * dweights is zero outside ids with sigmoid and identity, and with softmax where normalising cancels the sum over all E:
 * any normalisation with eps = 0 and no bias in the weight. Else a softmax, like dlse, reaches every logit.
 *
 * Sources: softmax, top-k and renormalisation as in Mixtral; raw as in DeepSeekMoE (arXiv 2401.06066); sigmoid with the
 * bias in selection as in DeepSeek-V3 (arXiv 2412.19437); with the bias in the weight as in SMoRA (arXiv 2501.15103).
 */
typedef struct moek_gate_args {
    uint32_t struct_size;   /**< sizeof(moek_gate_args). */
    uint32_t flags;         /**< Bits of ::moek_call_flag. */
    int64_t T;              /**< Tokens, >= 0. */
    int64_t E;              /**< Experts, 1..::MOEK_MAX_EXPERTS. */
    int64_t k;              /**< Active experts, 1..E; with ::MOEK_GATE_SELECT_ALL 0 or E. */
    int64_t logits_stride;  /**< Row stride of logits. */
    int64_t dlogits_stride; /**< Row stride of dlogits. */
    int32_t logits_dtype;   /**< ::moek_dtype of logits and dlogits. */
    int32_t score;          /**< ::moek_gate_score. */
    int32_t select;         /**< ::moek_gate_select. */
    int32_t bias_mode;      /**< ::moek_bias_mode. */
    int32_t normalize;      /**< ::moek_gate_normalize. */
    int32_t reserved0;      /**< Zero. */
    double eps;          /**< Added to the normalising sum, >= 0. A sum (with eps) of exactly 0 gives zero weights. */
    double temperature;  /**< > 0; 0 means 1. */
    double weight_scale; /**< Factor on the weights; 0 means 1. */
    const void* logits;  /**< [in] [T, E]. */
    const void* bias;    /**< [in] [E], accumulator dtype; null with ::MOEK_BIAS_MODE_NONE. Gets no gradient. */
    void* ids;           /**< [out forward, in backward] int32 [T, k], best first; null with SELECT_ALL. */
    void* weights;       /**< [out forward] [T, k] ([T, E] with SELECT_ALL), accumulator dtype. Not read in backward. */
    void* counts; /**< [out forward, optional] int32 [E]: how often each id was selected; null with SELECT_ALL. */
    void* lse;    /**< [out forward, optional] [T], accumulator dtype. */
    const void* dweights; /**< [in backward] shape and dtype of weights. */
    const void* dlse;     /**< [in backward, optional] [T], accumulator dtype: gradient of lse, for a router z-loss. */
    void* dlogits;        /**< [out backward] [T, E]. */
    uint64_t reserved[8]; /**< Zero. */
} moek_gate_args;

/**
 * One step of loss-free load balancing: bias_e += rate * sign(target - counts_e), sign(0) = 0.
 * With ::MOEK_BIAS_TARGET_MEAN target is the mean of the counts. Call it once per optimiser step, outside autograd.
 * Sources: DeepSeek-V3 (arXiv 2412.19437), SMoRA (arXiv 2501.15103), FlyLoRA (arXiv 2510.08396).
 */
typedef struct moek_gate_bias_update_args {
    uint32_t struct_size; /**< sizeof(moek_gate_bias_update_args). */
    uint32_t flags;       /**< 0. */
    int64_t E;            /**< Experts (or ranks), 1..::MOEK_MAX_EXPERTS. */
    int32_t bias_dtype;   /**< ::moek_dtype of bias: F32 or F64. */
    int32_t target_mode;  /**< ::moek_bias_target. */
    double rate;          /**< Step, finite. */
    double target;        /**< Used with ::MOEK_BIAS_TARGET_VALUE; finite. */
    const void* counts;   /**< [in] int32 [E]. */
    void* bias;           /**< [in, out] [E]. */
    uint64_t reserved[4]; /**< Zero. */
} moek_gate_bias_update_args;

/**
 * Rank-wise sparse LoRA: every rank is an expert.
 *
 * Forward, per token, x~ = dropout(x):
 *   gate      ROUTER: z = W_r x~ (or W_r router_input), each of the r / rank_partition values repeated rank_partition
 *             times; ids, gates by the maths of ::moek_gate_args (score, bias_mode, normalize, eps, temperature).
 *             CALLER: given. ACTIVATION_*: from a = A x~, see ::moek_rank_gate.
 *   u_j = A[ids_j] . x~
 *   y (+)= scale * sum_j B[:, ids_j] gates_j u_j
 * SMoRA is ROUTER with sigmoid, bias in the weight, SUM_TO_K and scale = alpha / k. FlyLoRA is ACTIVATION_* with
 * bias_mode SELECTION. MoRA is ACTIVATION_SOFTMAX; `normalize` rescales its kept gates.
 *
 * Backward, given dy and what forward saved (dh_j = scale * B[:, ids_j] . dy):
 *   dB[:, ids_j] += scale * gates_j u_j dy,   dgates_j = u_j dh_j,   du_j = gates_j dh_j
 *   dz from dgates as in ::moek_gate_args (ROUTER) or da through softmax and norm (ACTIVATION_SOFTMAX)
 *   dA[ids_j] += du_j x~,   dW_r += dz x~,   dx (+)= dropout'( sum_j du_j A[ids_j] + W_r^T dz )
 * With ACTIVATION_SOFTMAX da adds to du for every rank. The selection itself is constant.
 *
 * Sources: SMoRA (arXiv 2501.15103), FlyLoRA (arXiv 2510.08396), MoRA (arXiv 2506.21035).
 */
typedef struct moek_rank_lora_args {
    uint32_t struct_size;         /**< sizeof(moek_rank_lora_args). */
    uint32_t flags;               /**< Bits of ::moek_call_flag. */
    int64_t T;                    /**< Tokens, >= 0. */
    int64_t d_in;                 /**< Input width, >= 1. */
    int64_t d_out;                /**< Output width, >= 1. */
    int64_t r;                    /**< Ranks, 1..::MOEK_MAX_EXPERTS. */
    int64_t k;                    /**< Active ranks, 1..r. */
    int64_t rank_partition;       /**< Ranks per router row, divides r; 0 means 1. ROUTER only. */
    int64_t x_stride;             /**< Row stride of x. */
    int64_t router_input_stride;  /**< Row stride of router_input. */
    int64_t A_stride;             /**< Row stride of A. */
    int64_t B_stride;             /**< Row stride of B. */
    int64_t W_r_stride;           /**< Row stride of W_r. */
    int64_t y_stride;             /**< Row stride of y. */
    int64_t dy_stride;            /**< Row stride of dy. */
    int64_t dx_stride;            /**< Row stride of dx. */
    int64_t drouter_input_stride; /**< Row stride of drouter_input. */
    int64_t dA_stride;            /**< Row stride of dA. */
    int64_t dB_stride;            /**< Row stride of dB. */
    int64_t dW_r_stride;          /**< Row stride of dW_r. */
    int32_t x_dtype;              /**< ::moek_dtype of x, router_input, dx and drouter_input. */
    int32_t weight_dtype;         /**< ::moek_dtype of A and B. */
    int32_t router_dtype;         /**< ::moek_dtype of W_r. */
    int32_t y_dtype;              /**< ::moek_dtype of y and dy. */
    int32_t grad_dtype;           /**< ::moek_dtype of dA, dB and dW_r. */
    int32_t b_layout;             /**< ::moek_b_layout of B and dB. */
    int32_t gate;                 /**< ::moek_rank_gate. */
    int32_t score;                /**< ::moek_gate_score; ROUTER only. */
    int32_t bias_mode;            /**< ::moek_bias_mode; ACTIVATION_SIGNED and _ABSOLUTE know NONE and SELECTION. */
    int32_t normalize;            /**< ::moek_gate_normalize; ROUTER and ACTIVATION_SOFTMAX. */
    double scale;                 /**< Factor on the adapter's output; taken as it is, 0 gives 0. */
    double eps;                   /**< Added to the normalising sum (ROUTER) or the norm (ACTIVATION_SOFTMAX), >= 0. */
    double temperature;           /**< > 0; 0 means 1. */
    double threshold;             /**< ACTIVATION_SOFTMAX: a gate below it is 0; >= 0. */
    double dropout_p;         /**< Probability that an element of x is dropped, 0 <= p < 1. See ::moek_dropout_args. */
    uint64_t dropout_seed;    /**< Seed of the mask; the same in backward. */
    uint64_t dropout_offset;  /**< Offset of the mask; the same in backward. */
    const void* x;            /**< [in] [T, d_in]. */
    const void* router_input; /**< [in, optional] [T, d_in]: what the router reads instead of dropout(x). */
    const void* A;            /**< [in] [r, d_in]. */
    const void* B;            /**< [in] [d_out, r] or [r, d_out], see b_layout. */
    const void* W_r;          /**< [in] [r / rank_partition, d_in]; ROUTER only, else null. */
    const void* bias;         /**< [in] [r], accumulator dtype; null with ::MOEK_BIAS_MODE_NONE. Gets no gradient. */
    void* y;                  /**< [out forward] [T, d_out]. */
    void* ids;   /**< [out forward; in with CALLER and in backward] int32 [T, k], distinct in a row, best first. */
    void* gates; /**< [out forward; in with CALLER and in backward] [T, k], accumulator dtype. */
    void* u;     /**< [out forward; in backward] [T, k], accumulator dtype. Forward: optional. */
    void* gate_logits;    /**< [out forward; in backward] accumulator dtype: ROUTER z [T, r / rank_partition],
                               ACTIVATION_SOFTMAX a [T, r]; null otherwise. Forward: optional. */
    void* counts;         /**< [out forward, optional] int32 [r]: how often each rank was selected. */
    const void* dy;       /**< [in backward] [T, d_out]. */
    void* dx;             /**< [out backward, optional] [T, d_in]. */
    void* drouter_input;  /**< [out backward, optional] [T, d_in]; needs router_input. */
    void* dA;             /**< [out backward, optional] [r, d_in]. */
    void* dB;             /**< [out backward, optional] shape of B. */
    void* dW_r;           /**< [out backward, optional] shape of W_r. */
    void* dgates;         /**< [out backward, optional] [T, k], accumulator dtype: gradient to the gates. */
    uint64_t reserved[8]; /**< Zero. */
} moek_rank_lora_args;

/**
 * Core-space merging: soft mixture of r x r cores between a shared pair of LoRA factors.
 *
 * Forward, per token, x~ = dropout(x):
 *   u = A x~,   p = softmax(W_g u / temperature) or softmax(W_g x / temperature) or given
 *   v = sum_e p_e (u^T C_e)            (u is a row vector on the left: v_j = sum_e p_e sum_i u_i C_e[i, j])
 *   y (+)= scale * B dropout(v)
 * The merged core sum_e p_e C_e is never formed.
 *
 * Backward, given dy and what forward saved:
 *   dv = scale * dropout'(B^T dy),   dB += scale * dy dropout(v)^T,   dp_e = (u^T C_e) . dv,   dC_e += p_e u dv^T
 *   dl = p * (dp - sum p dp) / temperature,   dW_g += dl u^T (CORE) or dl x^T (INPUT)
 *   du = sum_e p_e C_e dv (+ W_g^T dl with CORE),   dA += du x~^T,   dx (+)= dropout'(A^T du) (+ W_g^T dl with INPUT)
 *
 * Source: CoMoL (arXiv 2603.00573); scale = alpha / r.
 */
typedef struct moek_core_merge_args {
    uint32_t struct_size;         /**< sizeof(moek_core_merge_args). */
    uint32_t flags;               /**< Bits of ::moek_call_flag. */
    int64_t T;                    /**< Tokens, >= 0. */
    int64_t d_in;                 /**< Input width, >= 1. */
    int64_t d_out;                /**< Output width, >= 1. */
    int64_t r;                    /**< Rank, >= 1. */
    int64_t E;                    /**< Cores, 1..::MOEK_MAX_EXPERTS. */
    int64_t x_stride;             /**< Row stride of x. */
    int64_t router_input_stride;  /**< Row stride of router_input. */
    int64_t A_stride;             /**< Row stride of A. */
    int64_t B_stride;             /**< Row stride of B. */
    int64_t W_g_stride;           /**< Row stride of W_g. */
    int64_t y_stride;             /**< Row stride of y. */
    int64_t dy_stride;            /**< Row stride of dy. */
    int64_t dx_stride;            /**< Row stride of dx. */
    int64_t drouter_input_stride; /**< Row stride of drouter_input. */
    int64_t dA_stride;            /**< Row stride of dA. */
    int64_t dB_stride;            /**< Row stride of dB. */
    int64_t dW_g_stride;          /**< Row stride of dW_g. */
    int32_t x_dtype;              /**< ::moek_dtype of x, router_input, dx and drouter_input. */
    int32_t weight_dtype;         /**< ::moek_dtype of A, B and C. */
    int32_t router_dtype;         /**< ::moek_dtype of W_g. */
    int32_t y_dtype;              /**< ::moek_dtype of y and dy. */
    int32_t grad_dtype;           /**< ::moek_dtype of dA, dB, dC and dW_g. */
    int32_t b_layout;             /**< ::moek_b_layout of B and dB. */
    int32_t router;               /**< ::moek_core_router. */
    int32_t reserved0;            /**< Zero. */
    double scale;                 /**< Factor on the adapter's output; taken as it is, 0 gives 0. */
    double temperature;           /**< > 0; 0 means 1. */
    double dropout_p;             /**< Probability that an element of x is dropped, 0 <= p < 1. */
    double dropout_core_p;        /**< Probability that an element of v is dropped, 0 <= p < 1. */
    uint64_t dropout_seed;        /**< Seed of both masks; the same in backward. */
    uint64_t dropout_offset;      /**< Offset of both masks; the same in backward. */
    const void* x;                /**< [in] [T, d_in]. */
    const void* router_input; /**< [in, optional] [T, d_in]: what the INPUT router reads instead of x. INPUT only. */
    const void* A;            /**< [in] [r, d_in]. */
    const void* B;            /**< [in] [d_out, r] or [r, d_out], see b_layout. */
    const void* C;            /**< [in] [E, r, r], dense. */
    const void* W_g;          /**< [in] [E, r] (CORE) or [E, d_in] (INPUT); null with CALLER. */
    void* y;                  /**< [out forward] [T, d_out]. */
    void* u;                  /**< [out forward; in backward] [T, r], accumulator dtype. Forward: optional. */
    void* p;        /**< [out forward; in with CALLER and in backward] [T, E], accumulator dtype. Forward: optional
                         unless CALLER. */
    void* v;        /**< [out forward; in backward] [T, r] before its dropout, accumulator dtype. Forward: optional. */
    const void* dy; /**< [in backward] [T, d_out]. */
    void* dx;       /**< [out backward, optional] [T, d_in]. */
    void* drouter_input;  /**< [out backward, optional] [T, d_in]; needs router_input. */
    void* dA;             /**< [out backward, optional] [r, d_in]. */
    void* dB;             /**< [out backward, optional] shape of B. */
    void* dC;             /**< [out backward, optional] [E, r, r], dense. */
    void* dW_g;           /**< [out backward, optional] shape of W_g. */
    void* dp;             /**< [out backward, optional] [T, E], accumulator dtype: gradient to p. */
    uint64_t reserved[8]; /**< Zero. */
} moek_core_merge_args;

/**
 * The dropout mask that the ops apply, for oracles and for layers built from single ops.
 *
 * Counter-based: element i = t * d + c uses word i mod 4 of Philox4x32-10 (Salmon et al., SC 2011) with the counter
 * (low and high half of i / 4, low and high half of offset) and the key (low half of seed, high half of seed xor
 * 0x9E3779B9 * stream, modulo 2^32). The element is kept when (word >> 8) * 2^-24 >= p; the mask is then 1 / (1 - p),
 * else 0.
 */
typedef struct moek_dropout_args {
    uint32_t struct_size; /**< sizeof(moek_dropout_args). */
    uint32_t flags;       /**< 0. */
    int64_t T;            /**< Rows, >= 0. */
    int64_t d;            /**< Columns, >= 1. */
    int64_t mask_stride;  /**< Row stride of mask. */
    double p;             /**< Probability that an element is dropped, 0 <= p < 1. */
    uint64_t seed;        /**< Seed. */
    uint64_t offset;      /**< Offset. */
    int32_t stream;       /**< ::moek_dropout_stream. */
    int32_t mask_dtype;   /**< ::moek_dtype of mask. */
    void* mask;           /**< [out] [T, d]. */
    uint64_t reserved[4]; /**< Zero. */
} moek_dropout_args;

/** @return ::MOEK_ABI_VERSION of the library that was loaded. */
MOEK_API int32_t moek_abi_version(void);

/**
 * @return a static text of lines `key=value`: version, commit, compiler, build (release or debug), isa (comma-separated
 * instruction sets compiled in), sm (CUDA architectures compiled into the companion library, empty without it).
 */
MOEK_API const char* moek_build_info(void);

/**
 * @param status a value of ::moek_status_code
 * @return a static name such as `invalid argument`; `unknown status` for any other value
 */
MOEK_API const char* moek_status_name(moek_status status);

/**
 * Copies the text of this thread's last failure; an empty text when there was none.
 * @param buffer [out] receives at most size bytes, always zero-terminated, cut at a character's boundary
 * @param size   bytes of buffer, >= 1
 * @return status
 */
MOEK_API moek_status moek_last_error(char* buffer, uint64_t size);

/**
 * Tells where a field lies, for bindings that check themselves or are made at run time.
 * @param struct_name name of a struct of this header, such as `moek_gate_args`
 * @param field_name  name of a field; null or empty: the struct itself (offset 0 and its size)
 * @param out_offset  [out] bytes from the start of the struct
 * @param out_size    [out] bytes of the field
 * @return status
 */
MOEK_API moek_status moek_struct_layout(const char* struct_name, const char* field_name, uint64_t* out_offset,
                                        uint64_t* out_size);

/**
 * Counts the devices of a type. Asking for CUDA devices loads the CUDA library.
 * @param device_type one of ::moek_device_type
 * @param out_count   [out] number of devices; 1 for the CPU
 * @return status; ::MOEK_STATUS_CODE_BACKEND_UNAVAILABLE says why a backend cannot be used (out_count is then 0)
 */
MOEK_API moek_status moek_device_count(int32_t device_type, int32_t* out_count);

/**
 * Describes a device.
 * @param device_type  one of ::moek_device_type
 * @param device_index 0 .. count - 1
 * @param out_info     [in, out] struct_size is read, the rest is written
 * @return status
 */
MOEK_API moek_status moek_device_query(int32_t device_type, int32_t device_index, moek_device_info* out_info);

/**
 * Creates a context.
 * @param options     optional: null is the default, the CPU
 * @param out_context [out] the context; null on failure
 * @return status
 */
MOEK_API moek_status moek_context_create(const moek_context_options* options, moek_context** out_context);

/**
 * Destroys a context. No call may be running on it.
 * @param context the context, or null
 * @return status
 */
MOEK_API moek_status moek_context_destroy(moek_context* context);

/**
 * Describes a context.
 * @param context  the context
 * @param out_info [in, out] struct_size is read, the rest is written
 * @return status
 */
MOEK_API moek_status moek_context_query(const moek_context* context, moek_context_info* out_info);

/**
 * Describes the device of a context.
 * @param context  the context
 * @param out_info [in, out] struct_size is read, the rest is written
 * @return status
 */
MOEK_API moek_status moek_context_device_query(const moek_context* context, moek_device_info* out_info);

/**
 * Tells how much memory the context's device has.
 * @param context   the context
 * @param out_free  [out] bytes that are free now, whoever asks for them; 0 when unknown
 * @param out_total [out] bytes in all; 0 when unknown
 * @return status
 */
MOEK_API moek_status moek_memory_query(moek_context* context, uint64_t* out_free, uint64_t* out_total);

/**
 * Allocates memory on the context's device: device memory on CUDA, host memory on the CPU. Contents are undefined.
 * Illegal during a capture.
 * @param context    the context
 * @param bytes      size; 0 gives null
 * @param out_memory [out] address, aligned to 64 bytes or more; null on failure
 * @return status; ::MOEK_STATUS_CODE_OUT_OF_MEMORY when there is no block of this size
 */
MOEK_API moek_status moek_memory_allocate(moek_context* context, uint64_t bytes, void** out_memory);

/**
 * Frees memory of ::moek_memory_allocate. On CUDA this waits until the device is done with it. Illegal during a capture.
 * @param context the context that allocated it
 * @param memory  its address, or null
 * @return status
 */
MOEK_API moek_status moek_memory_free(moek_context* context, void* memory);

/**
 * Copies memory. A copy to or from the host is ordered after the stream's earlier work and done when the call returns;
 * it is illegal during a capture. A copy within the device is work like an op: queued, and captured in a capture. On the
 * CPU all memory is host memory, and every kind is a plain copy.
 * @param context     the context
 * @param destination where to; null is legal with 0 bytes
 * @param source      where from; must not overlap the destination; null is legal with 0 bytes
 * @param bytes       how much
 * @param kind        one of ::moek_copy_kind
 * @param stream      see the top of this header
 * @return status
 */
MOEK_API moek_status moek_memory_copy(moek_context* context, void* destination, const void* source, uint64_t bytes,
                                      int32_t kind, void* stream);

/**
 * Sets every byte of device memory (of host memory on the CPU). Work like an op: queued, and captured in a capture.
 * @param context     the context
 * @param destination where; null is legal with 0 bytes
 * @param value       the byte, 0..255
 * @param bytes       how many
 * @param stream      see the top of this header
 * @return status
 */
MOEK_API moek_status moek_memory_set(moek_context* context, void* destination, int32_t value, uint64_t bytes,
                                     void* stream);

/**
 * Creates a stream: a queue of work that is done in order. It does not wait for the default stream, nor that for it;
 * ::moek_stream_wait_event orders two streams. On the CPU, where calls return when their work is done, it is null.
 * @param context    the context
 * @param out_stream [out] the stream, a `cudaStream_t`; null on failure
 * @return status
 */
MOEK_API moek_status moek_stream_create(moek_context* context, void** out_stream);

/**
 * Destroys a stream of ::moek_stream_create. Work that is queued on it is still done.
 * @param context the context that created it
 * @param stream  the stream, or null
 * @return status
 */
MOEK_API moek_status moek_stream_destroy(moek_context* context, void* stream);

/**
 * Waits until the stream's work is done. Illegal while the stream is captured.
 * @param context the context
 * @param stream  see the top of this header
 * @return status; ::MOEK_STATUS_CODE_DEVICE when the work failed
 */
MOEK_API moek_status moek_stream_synchronize(moek_context* context, void* stream);

/**
 * Lets the stream's later work wait for an event; the call itself does not wait. An event that was never recorded holds
 * nothing up. Waiting for an event of a captured stream draws this stream into the capture; the captured one must wait
 * for it in turn before the capture ends.
 * @param context the context
 * @param stream  see the top of this header
 * @param event   the event
 * @return status
 */
MOEK_API moek_status moek_stream_wait_event(moek_context* context, void* stream, moek_event* event);

/**
 * Creates an event.
 * @param context   the context
 * @param out_event [out] the event; null on failure
 * @return status
 */
MOEK_API moek_status moek_event_create(moek_context* context, moek_event** out_event);

/**
 * Destroys an event.
 * @param context the context that created it
 * @param event   the event, or null
 * @return status
 */
MOEK_API moek_status moek_event_destroy(moek_context* context, moek_event* event);

/**
 * Puts the event at the end of the stream's work so far; on the CPU, where that is done, notes the time. Recording again
 * replaces what was there. An event that is recorded during a capture orders work within the graph and has no time.
 * @param context the context
 * @param event   the event
 * @param stream  see the top of this header
 * @return status
 */
MOEK_API moek_status moek_event_record(moek_context* context, moek_event* event, void* stream);

/**
 * Waits until the work before the event is done; returns at once when it was never recorded. Illegal during a capture.
 * @param context the context
 * @param event   the event
 * @return status; ::MOEK_STATUS_CODE_DEVICE when the work failed
 */
MOEK_API moek_status moek_event_synchronize(moek_context* context, moek_event* event);

/**
 * Tells the time between two events, after waiting for both. Illegal during a capture.
 * @param context          the context
 * @param start            the earlier event, recorded outside a capture
 * @param end              the later event, recorded outside a capture
 * @param out_milliseconds [out] milliseconds on the device, to about half a microsecond; on the CPU by a steady clock;
 *                         negative when `end` came first
 * @return status
 */
MOEK_API moek_status moek_event_elapsed(moek_context* context, moek_event* start, moek_event* end,
                                        double* out_milliseconds);

/**
 * Begins a capture: what is queued on the stream from now on becomes part of a graph instead of running. Addresses and
 * arguments are recorded as they are: the memory must stay until the graph is destroyed, and every launch draws the same
 * dropout masks. Run the calls once before, outside of a capture: kernels are loaded on first use. What is illegal
 * meanwhile stands at the top of this header; other threads are free to do it. An illegal call fails and may spoil the
 * capture, which has to be ended all the same. Fails on the CPU with ::MOEK_STATUS_CODE_UNSUPPORTED.
 * @param context the context
 * @param stream  a stream of ::moek_stream_create, or another that is not the default stream; not captured yet
 * @return status
 */
MOEK_API moek_status moek_graph_capture_begin(moek_context* context, void* stream);

/**
 * Ends a capture, on the thread that began it, and makes the graph. Whatever the status, the stream is no longer
 * captured.
 * @param context   the context
 * @param stream    the stream whose capture began
 * @param out_graph [out] the graph; null on failure
 * @return status; ::MOEK_STATUS_CODE_DEVICE when something illegal was called meanwhile
 */
MOEK_API moek_status moek_graph_capture_end(moek_context* context, void* stream, moek_graph** out_graph);

/**
 * Tells how many pieces of work a graph holds: kernels, copies and sets.
 * @param context   the context
 * @param graph     the graph
 * @param out_count [out] how many
 * @return status
 */
MOEK_API moek_status moek_graph_node_count(moek_context* context, const moek_graph* graph, uint64_t* out_count);

/**
 * Queues a graph's work as a whole. One graph runs once at a time: a second launch waits for the first. Illegal while the
 * stream is captured.
 * @param context the context
 * @param graph   the graph
 * @param stream  see the top of this header
 * @return status
 */
MOEK_API moek_status moek_graph_launch(moek_context* context, moek_graph* graph, void* stream);

/**
 * Destroys a graph. A launch that is still running is finished first, which the call does not wait for.
 * @param context the context that captured it
 * @param graph   the graph, or null
 * @return status
 */
MOEK_API moek_status moek_graph_destroy(moek_context* context, moek_graph* graph);

/**
 * @param context   the context
 * @param args      the call to come; pointers are not read
 * @param out_bytes [out] workspace bytes of ::moek_gate_forward
 * @return status
 */
MOEK_API moek_status moek_gate_forward_workspace(moek_context* context, const moek_gate_args* args,
                                                 uint64_t* out_bytes);

/**
 * Runs the gate, see ::moek_gate_args.
 * @param context         the context
 * @param args            the call
 * @param workspace       scratch memory on the context's device
 * @param workspace_bytes its size, at least what the query says
 * @param stream          see the top of this header
 * @return status
 */
MOEK_API moek_status moek_gate_forward(moek_context* context, const moek_gate_args* args, void* workspace,
                                       uint64_t workspace_bytes, void* stream);

/**
 * @param context   the context
 * @param args      the call to come; pointers are not read
 * @param out_bytes [out] workspace bytes of ::moek_gate_backward
 * @return status
 */
MOEK_API moek_status moek_gate_backward_workspace(moek_context* context, const moek_gate_args* args,
                                                  uint64_t* out_bytes);

/**
 * Runs the gradient of the gate, see ::moek_gate_args.
 * @param context         the context
 * @param args            the call
 * @param workspace       scratch memory on the context's device
 * @param workspace_bytes its size, at least what the query says
 * @param stream          see the top of this header
 * @return status
 */
MOEK_API moek_status moek_gate_backward(moek_context* context, const moek_gate_args* args, void* workspace,
                                        uint64_t workspace_bytes, void* stream);

/**
 * Updates a load bias, see ::moek_gate_bias_update_args. Needs no workspace.
 * @param context the context
 * @param args    the call
 * @param stream  see the top of this header
 * @return status
 */
MOEK_API moek_status moek_gate_bias_update(moek_context* context, const moek_gate_bias_update_args* args, void* stream);

/**
 * @param context   the context
 * @param args      the call to come; pointers are only tested for null
 * @param out_bytes [out] workspace bytes of ::moek_rank_lora_forward
 * @return status
 */
MOEK_API moek_status moek_rank_lora_forward_workspace(moek_context* context, const moek_rank_lora_args* args,
                                                      uint64_t* out_bytes);

/**
 * Runs rank-wise LoRA, see ::moek_rank_lora_args.
 * @param context         the context
 * @param args            the call
 * @param workspace       scratch memory on the context's device
 * @param workspace_bytes its size, at least what the query says
 * @param stream          see the top of this header
 * @return status
 */
MOEK_API moek_status moek_rank_lora_forward(moek_context* context, const moek_rank_lora_args* args, void* workspace,
                                            uint64_t workspace_bytes, void* stream);

/**
 * @param context   the context
 * @param args      the call to come; pointers are only tested for null
 * @param out_bytes [out] workspace bytes of ::moek_rank_lora_backward
 * @return status
 */
MOEK_API moek_status moek_rank_lora_backward_workspace(moek_context* context, const moek_rank_lora_args* args,
                                                       uint64_t* out_bytes);

/**
 * Runs the gradient of rank-wise LoRA, see ::moek_rank_lora_args.
 * @param context         the context
 * @param args            the call
 * @param workspace       scratch memory on the context's device
 * @param workspace_bytes its size, at least what the query says
 * @param stream          see the top of this header
 * @return status
 */
MOEK_API moek_status moek_rank_lora_backward(moek_context* context, const moek_rank_lora_args* args, void* workspace,
                                             uint64_t workspace_bytes, void* stream);

/**
 * @param context   the context
 * @param args      the call to come; pointers are only tested for null
 * @param out_bytes [out] workspace bytes of ::moek_core_merge_forward
 * @return status
 */
MOEK_API moek_status moek_core_merge_forward_workspace(moek_context* context, const moek_core_merge_args* args,
                                                       uint64_t* out_bytes);

/**
 * Runs core-space merging, see ::moek_core_merge_args.
 * @param context         the context
 * @param args            the call
 * @param workspace       scratch memory on the context's device
 * @param workspace_bytes its size, at least what the query says
 * @param stream          see the top of this header
 * @return status
 */
MOEK_API moek_status moek_core_merge_forward(moek_context* context, const moek_core_merge_args* args, void* workspace,
                                             uint64_t workspace_bytes, void* stream);

/**
 * @param context   the context
 * @param args      the call to come; pointers are only tested for null
 * @param out_bytes [out] workspace bytes of ::moek_core_merge_backward
 * @return status
 */
MOEK_API moek_status moek_core_merge_backward_workspace(moek_context* context, const moek_core_merge_args* args,
                                                        uint64_t* out_bytes);

/**
 * Runs the gradient of core-space merging, see ::moek_core_merge_args.
 * @param context         the context
 * @param args            the call
 * @param workspace       scratch memory on the context's device
 * @param workspace_bytes its size, at least what the query says
 * @param stream          see the top of this header
 * @return status
 */
MOEK_API moek_status moek_core_merge_backward(moek_context* context, const moek_core_merge_args* args, void* workspace,
                                              uint64_t workspace_bytes, void* stream);

/**
 * Writes a dropout mask, see ::moek_dropout_args. Needs no workspace.
 * @param context the context
 * @param args    the call
 * @param stream  see the top of this header
 * @return status
 */
MOEK_API moek_status moek_dropout_mask(moek_context* context, const moek_dropout_args* args, void* stream);

#ifdef __cplusplus
}
#endif

#endif
