/* Batch normalisation of a training step with the activation behind it, forward and backward: a clamp (ReLU, ReLU6 or
 * none) or hard swish.
 *
 * Numbers lie as rows of channels: images are NHWC. Each pass reads every number once: two forward (sums, then the
 * output), two backward. Nothing but the input is kept in between; where the activation bends is computed again.
 *
 * Sums are of differences from the first row, so that a large mean costs no digits; floats over BLOCK rows, doubles
 * beyond. Threads take fixed parts of the rows and are added in order: the same number of threads gives the same bits.
 */
#include <stdint.h>
#ifdef _OPENMP
#include <omp.h>
#endif

#define BLOCK 64
#define CHUNK 256 /* channels whose sums stay in the nearest cache */

typedef struct {
    int64_t rows, channels;
    float low, high;    /* of the clamp */
    int32_t hard_swish; /* v * clamp(v + 3, 0, 6) / 6 in place of the clamp */
} sizes_t;

static inline int64_t smaller(int64_t a, int64_t b) { return a < b ? a : b; }

static inline float activate(float value, float low, float high, int hard_swish)
{
    float bounded = hard_swish ? value + 3 : value;
    bounded = bounded < low ? low : bounded;
    bounded = bounded > high ? high : bounded;
    return hard_swish ? value * bounded * (1.0f / 6) : bounded;
}

/* Times the slope of the activation at a value. */
static inline float slope(float gradient, float value, float low, float high, int hard_swish)
{
    const float bounded = hard_swish ? value + 3 : value;
    const float inside = hard_swish ? gradient * (value * (1.0f / 3) + 0.5f) : gradient;
    const float beyond = hard_swish & (bounded >= high) ? gradient : 0;
    return (bounded > low) & (bounded < high) ? inside : beyond;
}

static int64_t first_row(int64_t rows, int64_t part, int64_t parts)
{
    return rows / parts * part + (part < rows % parts ? part : rows % parts);
}

/* Sums of d and d^2 by channel, d = x - x[0], added to sums: [2, channels]. A block of rows, `width` channels. */
static void add_squares(const float *restrict x, const float *restrict origin, double *restrict sums, int64_t rows,
                        int64_t channels, int64_t width)
{
    float sum[CHUNK] = {0}, square[CHUNK] = {0};
    for (int64_t r = 0; r < rows; r++, x += channels)
        for (int64_t c = 0; c < width; c++) {
            const float d = x[c] - origin[c];
            sum[c] += d;
            square[c] += d * d;
        }
    for (int64_t c = 0; c < width; c++) {
        sums[c] += sum[c];
        sums[channels + c] += square[c];
    }
}

/* mean, variance: [channels], the biased one. workspace: [parts, 2, channels]. */
void batch_statistics(const sizes_t *s, const float *x, float *mean, float *variance, double *workspace, int parts)
{
    const int64_t channels = s->channels;
#pragma omp parallel for schedule(static, 1) num_threads(parts)
    for (int part = 0; part < parts; part++) {
        const int64_t first = first_row(s->rows, part, parts), last = first_row(s->rows, part + 1, parts);
        double *sums = workspace + 2 * channels * part;
        for (int64_t c = 0; c < 2 * channels; c++) sums[c] = 0;
        for (int64_t row = first; row < last; row += BLOCK)
            for (int64_t c = 0; c < channels; c += CHUNK)
                add_squares(x + row * channels + c, x + c, sums + c, smaller(BLOCK, last - row), channels,
                            smaller(CHUNK, channels - c));
    }
    for (int64_t c = 0; c < channels; c++) {
        double sum = 0, square = 0;
        for (int part = 0; part < parts; part++) {
            sum += workspace[2 * channels * part + c];
            square += workspace[2 * channels * part + channels + c];
        }
        const double shift = sum / (double)s->rows, spread = square / (double)s->rows - shift * shift;
        mean[c] = (float)(x[c] + shift);
        variance[c] = spread > 0 || spread != spread ? (float)spread : 0; /* NaN stays */
    }
}

/* y = activation of x * scale + shift; y may be x itself, so neither is restrict. */
void normalise(const sizes_t *s, const float *x, const float *scale, const float *shift, float *y, int parts)
{
    const int64_t channels = s->channels;
    const float low = s->low, high = s->high;
    const int hard_swish = s->hard_swish;
#pragma omp parallel for schedule(static, 1) num_threads(parts)
    for (int part = 0; part < parts; part++) {
        const int64_t first = first_row(s->rows, part, parts), last = first_row(s->rows, part + 1, parts);
        for (int64_t row = first; row < last; row++) {
            const float *from = x + row * channels;
            float *to = y + row * channels;
#pragma omp simd
            for (int64_t c = 0; c < channels; c++)
                to[c] = activate(from[c] * scale[c] + shift[c], low, high, hard_swish);
        }
    }
}

/* Sums of g and g * d by channel, added to sums: [2, channels]; g is the gradient times the activation's slope,
 * d = x - mean. One block of rows, `width` channels. */
static void add_gradients(const float *restrict x, const float *restrict gradient, const float *restrict mean,
                          const float *restrict scale, const float *restrict shift, float low, float high,
                          int hard_swish, double *restrict sums, int64_t rows, int64_t channels, int64_t width)
{
    float sum[CHUNK] = {0}, product[CHUNK] = {0};
    for (int64_t r = 0; r < rows; r++, x += channels, gradient += channels)
        for (int64_t c = 0; c < width; c++) {
            const float g = slope(gradient[c], x[c] * scale[c] + shift[c], low, high, hard_swish);
            sum[c] += g;
            product[c] += g * (x[c] - mean[c]);
        }
    for (int64_t c = 0; c < width; c++) {
        sums[c] += sum[c];
        sums[channels + c] += product[c];
    }
}

/* sums: [2, channels], of g and of g * (x - mean). workspace: [parts, 2, channels]. */
void gradient_sums(const sizes_t *s, const float *x, const float *gradient, const float *mean, const float *scale,
                   const float *shift, double *sums, double *workspace, int parts)
{
    const int64_t channels = s->channels;
#pragma omp parallel for schedule(static, 1) num_threads(parts)
    for (int part = 0; part < parts; part++) {
        const int64_t first = first_row(s->rows, part, parts), last = first_row(s->rows, part + 1, parts);
        double *own = workspace + 2 * channels * part;
        for (int64_t c = 0; c < 2 * channels; c++) own[c] = 0;
        for (int64_t row = first; row < last; row += BLOCK)
            for (int64_t c = 0; c < channels; c += CHUNK)
                add_gradients(x + row * channels + c, gradient + row * channels + c, mean + c, scale + c, shift + c,
                              s->low, s->high, s->hard_swish, own + c, smaller(BLOCK, last - row), channels,
                              smaller(CHUNK, channels - c));
    }
    for (int64_t c = 0; c < 2 * channels; c++) {
        sums[c] = 0;
        for (int part = 0; part < parts; part++) sums[c] += workspace[2 * channels * part + c];
    }
}

/* Gradient of x: g * scale + (x - mean) * by_input + constant; see gradient_sums for g. */
void input_gradient(const sizes_t *s, const float *x, const float *gradient, const float *mean, const float *scale,
                    const float *shift, const float *by_input, const float *constant, float *result, int parts)
{
    const int64_t channels = s->channels;
    const float low = s->low, high = s->high;
    const int hard_swish = s->hard_swish;
#pragma omp parallel for schedule(static, 1) num_threads(parts)
    for (int part = 0; part < parts; part++) {
        const int64_t first = first_row(s->rows, part, parts), last = first_row(s->rows, part + 1, parts);
        for (int64_t row = first; row < last; row++) {
            const float *restrict xs = x + row * channels, *restrict gs = gradient + row * channels;
            float *restrict to = result + row * channels;
            for (int64_t c = 0; c < channels; c++) {
                const float g = slope(gs[c], xs[c] * scale[c] + shift[c], low, high, hard_swish);
                to[c] = g * scale[c] + (xs[c] - mean[c]) * by_input[c] + constant[c];
            }
        }
    }
}
