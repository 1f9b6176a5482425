// The option MOEKERNELS_CUDA_CLUSTERS: the same bits with it and without, for every call that it may concern, and what it says
// about itself. On a GPU when the tests run on one, else on the emulation.
#include <gtest/gtest.h>

#if defined(MOEK_EMULATED_LIBRARY)

#include <functional>
#include <vector>

#include "tests/support/context.hpp"
#include "tests/support/environment.hpp"
#include "tests/support/random.hpp"
#include "tests/support/tensor.hpp"

namespace moek::test {
namespace {

constexpr const char* kClusters = "MOEKERNELS_CUDA_CLUSTERS";

moek_context_options cuda_options() {
    moek_context_options options = device_options();
    options.device_type = MOEK_DEVICE_TYPE_CUDA;
    if (!on_cuda()) options.cuda_library = MOEK_EMULATED_LIBRARY;
    return options;
}

// A context made under the option; what it logs, by level.
class ClusterContext {
  public:
    explicit ClusterContext(const char* clusters) {
        const Environment option(kClusters, clusters);
        moek_context_options options = cuda_options();
        options.log_level = MOEK_LOG_LEVEL_INFORMATION;
        options.log = [](int32_t level, const char* message, uint64_t length, void* user) {
            static_cast<std::string*>(user)->append(std::to_string(level) + " " + std::string(message, length) + "\n");
        };
        options.log_user = &log_;
        EXPECT_EQ(moek_context_create(&options, &context_), MOEK_STATUS_CODE_OK) << last_error();
    }
    ~ClusterContext() { EXPECT_EQ(moek_context_destroy(context_), MOEK_STATUS_CODE_OK); }
    ClusterContext(const ClusterContext&) = delete;
    ClusterContext& operator=(const ClusterContext&) = delete;

    operator moek_context*() const { return context_; }
    const std::string& log() const { return log_; }
    // On a GPU that has no clusters.
    bool has_no_effect() const { return on_real_gpu() && log_.find(" has no effect: ") != std::string::npos; }

  private:
    moek_context* context_ = nullptr;
    std::string log_;
};

struct Shape {
    int64_t T, d_in, d_out, r;
    int32_t x_dtype = MOEK_DTYPE_BF16;
    int32_t weight_dtype = MOEK_DTYPE_BF16;
    int32_t b_layout = MOEK_B_LAYOUT_OUT_BY_RANK;
    bool separate_router_input = false;
    double dropout_p = 0;
    int64_t weight_padding = 0;  // of every row
    uint32_t flags = 0;
    int64_t E = 0;  // 0: rank_lora; else core_merge with so many cores
};

// The inputs of a call, and what forward and backward made of them.
class Call {
  public:
    explicit Call(const Shape& shape) : shape_(shape) {
        Random random;
        const auto matrix = [&](int32_t dtype, int64_t rows, int64_t columns, double deviation, int64_t padding = 0) {
            return Tensor(dtype, rows, columns, random.normals(rows * columns, deviation), columns + padding);
        };
        const int64_t padding = shape.weight_padding;
        const double shrink = 1 / std::sqrt(static_cast<double>(shape.d_in));
        const bool out_by_rank = shape.b_layout == MOEK_B_LAYOUT_OUT_BY_RANK;
        x_ = matrix(shape.x_dtype, shape.T, shape.d_in, 1);
        dy_ = matrix(shape.x_dtype, shape.T, shape.d_out, 1);
        a_ = matrix(shape.weight_dtype, shape.r, shape.d_in, shrink, padding);
        b_ = out_by_rank ? matrix(shape.weight_dtype, shape.d_out, shape.r, 1, padding)
                         : matrix(shape.weight_dtype, shape.r, shape.d_out, 1, padding);
        router_ = matrix(shape.weight_dtype, shape.E == 0 ? shape.r : shape.E, shape.d_in, shrink, padding);
        if (shape.separate_router_input) router_input_ = matrix(shape.x_dtype, shape.T, shape.d_in, 1);
        if (shape.E != 0) {
            const int64_t elements = shape.r * shape.r;
            c_ = Tensor(shape.weight_dtype, shape.E, elements, random.normals(shape.E * elements, 0.1));
        }
    }

    // Everything that is written, in one order.
    std::vector<Tensor> run(moek_context* context) { return shape_.E == 0 ? rank_lora(context) : core_merge(context); }

  private:
    Tensor like(const Tensor& other) const {
        return Tensor(other.dtype(), other.rows(), other.columns(), other.stride());
    }

    std::vector<Tensor> rank_lora(moek_context* context) {
        constexpr int64_t k = 5;
        const int32_t f32 = MOEK_DTYPE_F32;
        std::vector<Tensor> out = {Tensor(shape_.x_dtype, shape_.T, shape_.d_out),
                                   Tensor(f32, shape_.T, k),
                                   Tensor(f32, shape_.T, k),
                                   Tensor(f32, shape_.T, shape_.r),
                                   like(x_),
                                   like(a_),
                                   like(b_),
                                   like(router_),
                                   like(router_input_)};
        IntTensor ids(shape_.T, k), counts(1, shape_.r);
        moek_rank_lora_args args = {};
        args.struct_size = sizeof(args);
        fill(args, out[0]);
        args.k = k;
        args.rank_partition = 1;
        args.W_r = router_.data();
        args.W_r_stride = router_.stride();
        args.router_dtype = shape_.weight_dtype;
        args.gate = MOEK_RANK_GATE_ROUTER;
        args.score = MOEK_GATE_SCORE_SIGMOID;
        args.normalize = MOEK_GATE_NORMALIZE_SUM_TO_K;
        args.ids = ids.data();
        args.counts = counts.data();
        args.gates = out[1].data();
        args.u = out[2].data();
        args.gate_logits = out[3].data();
        EXPECT_EQ(test::run(moek_rank_lora_forward_workspace, moek_rank_lora_forward, context, args),
                  MOEK_STATUS_CODE_OK)
            << last_error();
        fill_gradients(args, out, 4);
        args.dW_r = out[7].data();
        args.dW_r_stride = out[7].stride();
        EXPECT_EQ(test::run(moek_rank_lora_backward_workspace, moek_rank_lora_backward, context, args),
                  MOEK_STATUS_CODE_OK)
            << last_error();
        for (IntTensor* integers : {&ids, &counts}) {
            const std::vector<int32_t> values = integers->values();
            out.emplace_back(f32, 1, static_cast<int64_t>(values.size()),
                             std::vector<double>(values.begin(), values.end()));
        }
        return out;
    }

    std::vector<Tensor> core_merge(moek_context* context) {
        const int32_t f32 = MOEK_DTYPE_F32;
        std::vector<Tensor> out = {Tensor(shape_.x_dtype, shape_.T, shape_.d_out),
                                   Tensor(f32, shape_.T, shape_.r),
                                   Tensor(f32, shape_.T, shape_.E),
                                   Tensor(f32, shape_.T, shape_.r),
                                   like(x_),
                                   like(a_),
                                   like(b_),
                                   like(router_),
                                   like(router_input_),
                                   like(c_)};
        moek_core_merge_args args = {};
        args.struct_size = sizeof(args);
        fill(args, out[0]);
        args.E = shape_.E;
        args.C = c_.data();
        args.W_g = router_.data();
        args.W_g_stride = router_.stride();
        args.router_dtype = shape_.weight_dtype;
        args.router = MOEK_CORE_ROUTER_INPUT;
        args.u = out[1].data();
        args.p = out[2].data();
        args.v = out[3].data();
        EXPECT_EQ(test::run(moek_core_merge_forward_workspace, moek_core_merge_forward, context, args),
                  MOEK_STATUS_CODE_OK)
            << last_error();
        fill_gradients(args, out, 4);
        args.dW_g = out[7].data();
        args.dW_g_stride = out[7].stride();
        args.dC = out[9].data();
        EXPECT_EQ(test::run(moek_core_merge_backward_workspace, moek_core_merge_backward, context, args),
                  MOEK_STATUS_CODE_OK)
            << last_error();
        return out;
    }

    // What the structs of both ops have.
    template <class Args>
    void fill(Args& args, Tensor& y) {
        args.flags = shape_.flags;
        args.T = shape_.T;
        args.d_in = shape_.d_in;
        args.d_out = shape_.d_out;
        args.r = shape_.r;
        args.x_dtype = args.y_dtype = shape_.x_dtype;
        args.weight_dtype = args.grad_dtype = shape_.weight_dtype;
        args.b_layout = shape_.b_layout;
        args.scale = 1.5;
        args.temperature = 1;
        args.dropout_p = shape_.dropout_p;
        args.dropout_seed = 77;
        args.x = x_.data();
        args.x_stride = x_.stride();
        args.A = a_.data();
        args.A_stride = a_.stride();
        args.B = b_.data();
        args.B_stride = b_.stride();
        if (router_input_.rows() != 0) {
            args.router_input = router_input_.data();
            args.router_input_stride = router_input_.stride();
        }
        args.y = y.data();
        args.y_stride = y.stride();
    }

    template <class Args>
    void fill_gradients(Args& args, std::vector<Tensor>& out, size_t first) {
        args.dy = dy_.data();
        args.dy_stride = dy_.stride();
        args.dx = out[first].data();
        args.dx_stride = out[first].stride();
        args.dA = out[first + 1].data();
        args.dA_stride = out[first + 1].stride();
        args.dB = out[first + 2].data();
        args.dB_stride = out[first + 2].stride();
        if (router_input_.rows() != 0) {
            args.drouter_input = out[first + 4].data();
            args.drouter_input_stride = out[first + 4].stride();
        }
    }

    const Shape shape_;
    Tensor x_, dy_, a_, b_, c_, router_, router_input_;
};

void expect_same_bits(const std::vector<Tensor>& got, const std::vector<Tensor>& expected) {
    ASSERT_EQ(got.size(), expected.size());
    for (size_t i = 0; i < got.size(); ++i) {
        EXPECT_TRUE(near(got[i], expected[i].values(), 0, 0)) << "tensor " << i;
        EXPECT_TRUE(got[i].same_bits(expected[i])) << "tensor " << i;
        EXPECT_FALSE(got[i].columns() != 0 && std::isnan(got[i].at(0, 0))) << "tensor " << i << " was not written";
    }
}

void check(const Shape& shape, std::initializer_list<const char*> options = {"2", "4"}) {
    Call call(shape);
    const ClusterContext without("0");
    const std::vector<Tensor> expected = call.run(without);
    for (const char* option : options) {
        SCOPED_TRACE(option);
        const ClusterContext with(option);
        if (with.has_no_effect()) GTEST_SKIP() << "this GPU has no clusters to compare with: " << with.log();
        EXPECT_NE(with.log().find(" share operands within clusters of up to "), std::string::npos) << with.log();
        expect_same_bits(call.run(with), expected);
    }
}

TEST(CudaClusters, GiveTheSameBits) {
    check({300, 136, 72, 64});
    // Fewer tokens than a cluster has rows for; both layouts of B; ranks that fill no tile.
    Shape shape = {129, 72, 136, 40};
    shape.x_dtype = shape.weight_dtype = MOEK_DTYPE_F16;
    shape.b_layout = MOEK_B_LAYOUT_RANK_BY_OUT;
    check(shape);
}

TEST(CudaClusters, GiveTheSameBitsToARouterWithAnInputOfItsOwn) {
    Shape shape = {130, 136, 72, 48};
    shape.separate_router_input = true;
    check(shape, {"2"});
}

TEST(CudaClusters, GiveTheSameBitsToCallsThatDoNotDependOnTheirBatch) {
    // Two splits, of 1024 each.
    Shape shape = {200, 1096, 72, 40};
    shape.flags = MOEK_CALL_FLAG_BATCH_INVARIANT;
    check(shape, {"2"});
}

TEST(CudaClusters, GiveTheSameBitsWhereRoutingIsInTheProduct) {
    // So few multiprocessors that rows alone keep them busy, and one block without tokens.
    const Environment multiprocessors("MOEK_EMULATION_SM_COUNT", "4");
    check({300, 136, 72, 64}, {"2"});
    Shape narrow = {510, 72, 72, 24};
    narrow.x_dtype = narrow.weight_dtype = MOEK_DTYPE_F16;
    check(narrow, {"4"});
    Shape odd = {300, 75, 67, 24};
    check(odd, {"2"});
}

TEST(CudaClusters, GiveTheSameBitsToCores) {
    Shape shape = {130, 72, 136, 40};
    shape.E = 4;
    check(shape, {"2"});
}

// Where the copies of clusters cannot bring an operand, the ordinary kernels run.
TEST(CudaClusters, LeaveWhatTheyCannotBring) {
    Shape odd = {130, 75, 67, 40};
    check(odd, {"2"});
    Shape mixed = {130, 72, 72, 40};
    mixed.weight_dtype = MOEK_DTYPE_F32;
    check(mixed, {"2"});
    Shape dropped = {130, 72, 72, 40};
    dropped.dropout_p = 0.25;
    check(dropped, {"2"});
    Shape shifted = {130, 72, 72, 40};
    shifted.weight_padding = 1;
    check(shifted, {"2"});
    // W_r begins within eight lines of A's end; B's lines are longer than 128 bytes.
    check({130, 72, 72, 36}, {"2"});
    check({130, 72, 72, 72}, {"2"});
    Shape few = {7, 72, 72, 64};
    check(few, {"4"});
}

TEST(CudaClusters, AreOffUnlessAskedFor) {
    EXPECT_EQ(ClusterContext("0").log(), "");
    EXPECT_EQ(ClusterContext("").log(), "");
    const ClusterContext context("4");
    if (context.has_no_effect()) GTEST_SKIP() << "this GPU has no clusters to switch on: " << context.log();
    EXPECT_EQ(context.log(),
              "2 MOEKERNELS_CUDA_CLUSTERS=4: products share operands within clusters of up to 4 blocks\n");
}

TEST(CudaClusters, RefuseOtherNumbers) {
    for (const char* value : {"1", "3", "8", "on", "2 ", "-2"}) {
        const Environment option(kClusters, value);
        const moek_context_options options = cuda_options();
        moek_context* context = nullptr;
        MOEK_EXPECT_ERROR(moek_context_create(&options, &context), MOEK_STATUS_CODE_INVALID_ARGUMENT,
                          std::string("MOEKERNELS_CUDA_CLUSTERS: got '") + value + "', expected 0, 2 or 4");
    }
}

TEST(CudaClusters, SayWhyTheyAreNotThere) {
    if (on_real_gpu()) GTEST_SKIP() << "the emulation alone can pretend to be another GPU";
    Call call({130, 72, 72, 40});
    const std::vector<Tensor> expected = call.run(ClusterContext("0"));
    {
        const Environment capability("MOEK_EMULATION_CAPABILITY", "89");
        const ClusterContext context("2");
        EXPECT_EQ(
            context.log(),
            "3 MOEKERNELS_CUDA_CLUSTERS=2 has no effect: device 0 has compute capability 8.9, clusters are for 9.0\n");
        expect_same_bits(call.run(context), expected);
    }
    const Environment maps("MOEK_EMULATION_TENSOR_MAPS", "0");
    const ClusterContext context("2");
    EXPECT_EQ(context.log(), "3 MOEKERNELS_CUDA_CLUSTERS=2 has no effect: the driver makes no tensor maps\n");
    expect_same_bits(call.run(context), expected);
}

}  // namespace
}  // namespace moek::test

#endif
