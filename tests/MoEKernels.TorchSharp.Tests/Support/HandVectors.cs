using static TorchSharp.torch;

namespace MoEKernels.TorchSharp.Tests;

/// <summary>Small cases worked out by hand from the formulas, in exact decimals to ten places.</summary>
internal static class HandVectors
{
    // SMoRA: d_in = d_out = 2, r = 3, k = 2, alpha = 4.
    public static readonly double[,] SmoraX = { { 1, -2 } };
    public static readonly double[,] SmoraA = { { 1, 0 }, { 0.5, 0.5 }, { 0, -1 } };
    public static readonly double[,] SmoraB = { { 1, 2, 3 }, { 0, -1, 1 } };
    public static readonly double[,] SmoraRouter = { { 0.2, 0.1 }, { -0.3, 0.4 }, { 0, -0.5 } };
    public static readonly double[] SmoraBias = [0, 0.01, -0.02];

    // CoMoL: d_in = d_out = r = 2, E = 2, scale 1. The second core is not symmetric, so a transposed one shows.
    public static readonly double[,] ComolX = { { 1, -2 } };
    public static readonly double[,] ComolA = { { 1, 0 }, { 0.5, 0.5 } };
    public static readonly double[,] ComolB = { { 1, 2 }, { 0, -1 } };
    public static readonly double[] ComolCores = [1, 0, 0, 1, 0, 2, -1, 0];
    public static readonly double[,] ComolRouter = { { 0.3, -0.2 }, { 0, 0.1 } };

    /// <summary>Checks outputs and, with dy = (1, 1), the gradients of x, A, B and W_r.</summary>
    public static void CheckSmora(Tensor output, Tensor ids, Tensor gates, Tensor[] leaves, double tolerance)
    {
        AreClose(output, [15.7427611047, 4.6971044419], tolerance, "y");
        AreClose(ids, [2, 0], 0, "ids");
        AreClose(gates, [1.1742761105, 0.8257238895], tolerance, "gates");
        output.backward([ones_like(output)]);
        AreClose(leaves[0].grad!, [0.9727082929, -10.6719561849], tolerance, "dx");
        AreClose(leaves[1].grad!, [1.6514477791, -3.3028955581, 0, 0, 9.3942088837, -18.7884177675], tolerance, "dA");
        AreClose(leaves[2].grad!, [1.6514477791, 0, 4.6971044419, 1.6514477791, 0, 4.6971044419], tolerance, "dB");
        AreClose(leaves[3].grad!, [-3.3936974306, 6.7873948612, 0, 0, 1.8767551162, -3.7535102323], tolerance, "dW_r");
    }

    /// <summary>Checks outputs and, with dy = (1, 1), the gradients of x and of the cores.</summary>
    public static void CheckComol(Tensor output, Tensor mixture, Tensor[] leaves, double tolerance)
    {
        AreClose(output, [1.7521234472, -0.4734019151], tolerance, "y");
        AreClose(mixture, [0.6106392339, 0.3893607661], tolerance, "p");
        output.backward([ones_like(output)]);
        AreClose(leaves[0].grad!, [1.4286723120, 0.1819669219], tolerance, "dx");
        AreClose(leaves[3].grad!,
            [0.6106392339, 0.6106392339, -0.3053196170, -0.3053196170, 0.3893607661, 0.3893607661, -0.1946803830, -0.1946803830], tolerance, "dC");
        // dl = (-0.4755179198, 0.4755179198), u = (1, -0.5)
        AreClose(leaves[4].grad!, [-0.4755179198, 0.2377589599, 0.4755179198, -0.2377589599], tolerance, "dW_g");
        // du = (1.2467053901, 0.3639338438), x = (1, -2)
        AreClose(leaves[1].grad!, [1.2467053901, -2.4934107802, 0.3639338438, -0.7278676876], tolerance, "dA");
        AreClose(leaves[2].grad!, [0.8053196170, 0.4734019151, 0.8053196170, 0.4734019151], tolerance, "dB");
    }

    private static void AreClose(Tensor got, double[] expected, double tolerance, string what) =>
        TensorAssert.AreClose(got.flatten(), tensor(expected, dtype: ScalarType.Float64), 0, tolerance, what);
}
