/* 3x3 convolutions of stride 1 by Winograd's minimal filtering F(4x4, 3x3) (Lavin and Gray, arXiv 1509.09308).
 *
 * A tile of 4x4 outputs needs 6x6 inputs. Both are seen as values of polynomials at six points a side, where a
 * convolution is a product: 36 multiplications instead of 144. For each of the 36 points, the tiles' values [tiles,
 * channels] are multiplied by the filters' [channels, filters]. A thread takes a block of tiles from the image to the
 * output, one panel of filters after the other, so that what lies between stays in its caches.
 *
 * Gradients of the filters are the same sum read backwards: products of the images' points and the output gradients'
 * points, summed over tiles, then seen as coefficients again. Gradients of the images are a convolution themselves.
 *
 * Images are NHWC. Vectors run along channels. They are as long as the processor's: of longer ones, which it has to
 * split, GCC keeps the sums in memory.
 */
#include <stdint.h>
#ifdef _OPENMP
#include <omp.h>
#endif

#define LANES 16 /* channels and filters are padded to multiples of it */
#define SIDE 6
#define POINTS (SIDE * SIDE)
#define TILE 4

/* Outputs of a product that are held in registers: ROWS tiles times PANEL vectors of filters. */
#define ROWS 6
#ifdef __AVX512F__
#define PANEL 4
#define SPAN 16 /* floats of a vector; divides LANES */
#else
#define PANEL 2
#define SPAN 8
#endif

typedef float vec __attribute__((vector_size(4 * SPAN)));
typedef float unaligned_vec __attribute__((vector_size(4 * SPAN), aligned(4), may_alias));
typedef int32_t mask __attribute__((vector_size(4 * SPAN)));

typedef struct {
    int64_t image, row, col; /* of the tile's first output */
} tile_t;

typedef struct {
    int64_t height, width, channels;        /* of the images; channels are a multiple of LANES */
    int64_t out_height, out_width, filters; /* before pooling */
    int64_t padding, dilation, relu;
    int64_t pool, pooled_height, pooled_width; /* pool: whether the largest of each 2x2 outputs is kept */
    int64_t tiles, block, splits;              /* tiles in all and of a block; parts that the filters are split into */
    int64_t workspace;                         /* floats of each thread, see workspace_size */
} layer_t;

#define INLINE static inline __attribute__((always_inline))

INLINE vec load(const float *from) { return *(const unaligned_vec *)from; }
INLINE void store(float *to, vec v) { *(unaligned_vec *)to = v; }
INLINE int64_t smaller(int64_t a, int64_t b) { return a < b ? a : b; }
INLINE int64_t padded_filters(const layer_t *l) { return (l->filters + LANES - 1) / LANES * LANES; }

/* A little more than a power of two apart, so that the points of a tile do not share a set of the cache. */
INLINE int64_t inputs_stride(const layer_t *l) { return l->block * l->channels + LANES; }
INLINE int64_t products_stride(const layer_t *l) { return l->block * PANEL * SPAN + LANES; }

/* Filters that are multiplied together; they lie side by side in memory. */
int64_t panel_width(void) { return PANEL * SPAN; }

int64_t workspace_size(const layer_t *l) { return POINTS * (inputs_stride(l) + products_stride(l)); }

/* A product of matrices: c [rows, width] = (or += with `add`) a [rows, depth] b [depth, width], any strides. */
typedef struct {
    const float *a, *b;
    float *c;
    int64_t a_row, a_step, b_step, c_row, depth;
    int add;
} product_t;

INLINE void multiply(int rows, int width, const product_t *p)
{
    const float *a = p->a, *b = p->b;
    const int64_t a_row = p->a_row, a_step = p->a_step, b_step = p->b_step, depth = p->depth;
    vec sum[ROWS][PANEL];
#pragma GCC unroll 6
    for (int i = 0; i < rows; i++)
#pragma GCC unroll 4
        for (int j = 0; j < width; j++) sum[i][j] = p->add ? load(p->c + i * p->c_row + SPAN * j) : (vec){0};
    for (int64_t k = 0; k < depth; k++, a += a_step, b += b_step) {
        vec right[PANEL];
#pragma GCC unroll 4
        for (int j = 0; j < width; j++) right[j] = load(b + SPAN * j);
#pragma GCC unroll 6
        for (int i = 0; i < rows; i++)
#pragma GCC unroll 4
            for (int j = 0; j < width; j++) sum[i][j] += a[i * a_row] * right[j];
    }
#pragma GCC unroll 6
    for (int i = 0; i < rows; i++)
#pragma GCC unroll 4
        for (int j = 0; j < width; j++) store(p->c + i * p->c_row + SPAN * j, sum[i][j]);
}

/* The same for sizes that are known only at run time; width in vectors. */
static void multiply_any(int64_t rows, int64_t width, const product_t *p)
{
#define CASE(r, w)                                                                                                     \
    case (r) * 8 + (w):                                                                                                \
        multiply(r, w, p);                                                                                             \
        break;
#if PANEL == 4
#define CASES(r) CASE(r, 1) CASE(r, 2) CASE(r, 3) CASE(r, 4)
#else
#define CASES(r) CASE(r, 2) /* LANES filters are two vectors */
#endif
    switch (rows * 8 + width) {
        CASES(1) CASES(2) CASES(3) CASES(4) CASES(5) CASES(6)
    }
#undef CASES
#undef CASE
}

/* One axis of the transforms: 6 inputs to 6 points, 6 points to 4 outputs. Points: 0, 1, -1, 2, -2, infinity. */
INLINE void to_points(const vec d[SIDE], vec v[SIDE])
{
    vec a = d[4] - 4 * d[2], b = d[3] - 4 * d[1], c = d[4] - d[2], e = 2 * (d[3] - d[1]);
    v[0] = 4 * d[0] - 5 * d[2] + d[4];
    v[1] = a + b;
    v[2] = a - b;
    v[3] = c + e;
    v[4] = c - e;
    v[5] = 4 * d[1] - 5 * d[3] + d[5];
}

INLINE void to_outputs(const vec m[SIDE], vec o[TILE])
{
    vec a = m[1] + m[2], b = m[1] - m[2], c = m[3] + m[4], d = m[3] - m[4];
    o[0] = m[0] + a + c;
    o[1] = b + 2 * d;
    o[2] = a + 4 * c;
    o[3] = b + 8 * d + m[5];
}

/* Larger of two, NaN if either is. */
INLINE vec larger(vec a, vec b)
{
    mask first = (a > b) | (a != a);
    return (vec)(((mask)a & first) | ((mask)b & ~first));
}

/* A tile's inputs, zero outside the image, to its points: v[point * stride + i] of channel first + i. `whole`: whether
 * all are inside, which most are and which is quicker. */
INLINE void read_pixels(const layer_t *l, const float *images, const tile_t *t, float *v, int64_t stride, int64_t first,
                        int64_t count, int whole)
{
    const float *image = images + t->image * l->height * l->width * l->channels + first;
    int64_t top = t->row - l->padding, left = t->col - l->padding, down = l->dilation * l->width * l->channels,
            across = l->dilation * l->channels;
    for (int64_t c = 0; c < count; c += SPAN) {
        int64_t corner = (top * l->width + left) * l->channels + c;
        vec half[SIDE][SIDE];
#pragma GCC unroll 6
        for (int j = 0; j < SIDE; j++) {
            int64_t col = left + j * l->dilation;
            int col_inside = whole || (col >= 0 && col < l->width);
            vec pixels[SIDE], points[SIDE];
#pragma GCC unroll 6
            for (int i = 0; i < SIDE; i++) {
                int64_t row = top + i * l->dilation;
                int inside = whole || (col_inside && row >= 0 && row < l->height);
                pixels[i] = inside ? load(image + (corner + i * down + j * across)) : (vec){0};
            }
            to_points(pixels, points);
#pragma GCC unroll 6
            for (int i = 0; i < SIDE; i++) half[i][j] = points[i];
        }
#pragma GCC unroll 6
        for (int i = 0; i < SIDE; i++) {
            vec points[SIDE];
            to_points(half[i], points);
#pragma GCC unroll 6
            for (int j = 0; j < SIDE; j++) store(v + (i * SIDE + j) * stride + c, points[j]);
        }
    }
}

static void read_tile(const layer_t *l, const float *images, const tile_t *t, float *v, int64_t stride, int64_t first,
                      int64_t count)
{
    int64_t top = t->row - l->padding, left = t->col - l->padding, reach = (SIDE - 1) * l->dilation;
    if (top >= 0 && left >= 0 && top + reach < l->height && left + reach < l->width)
        read_pixels(l, images, t, v, stride, first, count, 1);
    else
        read_pixels(l, images, t, v, stride, first, count, 0);
}

/* A vector of outputs; the last one of a pixel may be shorter. */
INLINE void write_vector(float *pixel, vec v, int64_t filter, int64_t filters)
{
    if (filter + SPAN <= filters)
        store(pixel + filter, v);
    else
        for (int64_t i = 0; filter + i < filters; i++) pixel[filter + i] = v[i];
}

/* Products m[point * stride + filter] of `count` filters from `first` on to a tile's outputs. */
static void write_tile(const layer_t *l, const float *m, int64_t stride, const float *bias, const tile_t *t,
                       float *outputs, int64_t first, int64_t count)
{
    int64_t height = l->pool ? l->pooled_height : l->out_height, width = l->pool ? l->pooled_width : l->out_width;
    float *image = outputs + t->image * height * width * l->filters;
    for (int64_t k = 0; k < count; k += SPAN) {
        vec across[TILE][SIDE], out[TILE][TILE], shift = load(bias + first + k);
#pragma GCC unroll 6
        for (int j = 0; j < SIDE; j++) {
            vec points[SIDE], column[TILE];
#pragma GCC unroll 6
            for (int i = 0; i < SIDE; i++) points[i] = load(m + (i * SIDE + j) * stride + k);
            to_outputs(points, column);
#pragma GCC unroll 4
            for (int i = 0; i < TILE; i++) across[i][j] = column[i];
        }
#pragma GCC unroll 4
        for (int i = 0; i < TILE; i++) {
            to_outputs(across[i], out[i]);
#pragma GCC unroll 4
            for (int j = 0; j < TILE; j++) {
                out[i][j] += shift;
                if (l->relu) out[i][j] = (vec)((mask)out[i][j] & ~(out[i][j] < 0));
            }
        }
        if (!l->pool) {
#pragma GCC unroll 4
            for (int i = 0; i < TILE; i++)
#pragma GCC unroll 4
                for (int j = 0; j < TILE; j++) {
                    int64_t row = t->row + i * l->dilation, col = t->col + j * l->dilation;
                    if (row < height && col < width)
                        write_vector(image + (row * width + col) * l->filters, out[i][j], first + k, l->filters);
                }
            continue;
        }
#pragma GCC unroll 2
        for (int i = 0; i < TILE; i += 2)
#pragma GCC unroll 2
            for (int j = 0; j < TILE; j += 2) {
                int64_t row = (t->row + i) / 2, col = (t->col + j) / 2;
                if (row >= height || col >= width) continue;
                int below = t->row + i + 1 < l->out_height, right = t->col + j + 1 < l->out_width;
                vec largest = out[i][j];
                if (right) largest = larger(largest, out[i][j + 1]);
                if (below) largest = larger(largest, out[i + 1][j]);
                if (below && right) largest = larger(largest, out[i + 1][j + 1]);
                write_vector(image + (row * width + col) * l->filters, largest, first + k, l->filters);
            }
    }
}

/* Convolve a batch.
 *
 * filters: panels of [POINTS, channels, panel width], the last one as wide as its filters rounded up to LANES.
 * bias: zero beyond the last filter, up to a multiple of LANES.
 * workspace: l->workspace floats for each thread.
 */
void convolve(const layer_t *l, const tile_t *tiles, const float *images, const float *filters, const float *bias,
              float *outputs, float *workspace, int threads)
{
    int64_t panels = (padded_filters(l) + PANEL * SPAN - 1) / (PANEL * SPAN);
    int64_t items = (l->tiles + l->block - 1) / l->block * l->splits;
    int64_t v_stride = inputs_stride(l), m_stride = products_stride(l);
#pragma omp parallel for schedule(dynamic) num_threads(threads)
    for (int64_t item = 0; item < items; item++) {
#ifdef _OPENMP
        float *v = workspace + omp_get_thread_num() * l->workspace;
#else
        float *v = workspace;
#endif
        float *m = v + POINTS * v_stride;
        int64_t start = item / l->splits * l->block, part = item % l->splits;
        int64_t count = smaller(l->block, l->tiles - start);
        for (int64_t t = 0; t < count; t++)
            read_tile(l, images, tiles + start + t, v + t * l->channels, v_stride, 0, l->channels);
        for (int64_t panel = panels * part / l->splits; panel < panels * (part + 1) / l->splits; panel++) {
            int64_t first = panel * PANEL * SPAN, width = smaller(padded_filters(l) - first, PANEL * SPAN);
            product_t product = {
                .a_row = l->channels,
                .a_step = 1,
                .b = filters + POINTS * l->channels * first,
                .b_step = width,
                .c_row = PANEL * SPAN,
                .depth = l->channels,
            };
            for (int64_t point = 0; point < POINTS; point++, product.b += l->channels * width) {
                product.a = v + point * v_stride, product.c = m + point * m_stride;
                for (int64_t t = 0; t < count;
                     t += ROWS, product.a += ROWS * l->channels, product.c += ROWS * PANEL * SPAN)
                    multiply_any(smaller(ROWS, count - t), width / SPAN, &product);
            }
            for (int64_t t = 0; t < count; t++)
                write_tile(l, m + t * PANEL * SPAN, m_stride, bias, tiles + start + t, outputs, first, width);
        }
    }
}

/* Filters in memory; the steps are in floats, and may be negative. */
typedef struct {
    int64_t filters, channels, filter_step, channel_step, row_step, col_step;
} filters_t;

INLINE void filter_to_points(const vec g[3], vec u[SIDE])
{
    vec even = (g[0] + g[2]) / 6, odd = g[1] / 6, far = g[0] / 24 + g[2] / 6, far_odd = g[1] / 12;
    u[0] = g[0] / 4;
    u[1] = -even - odd;
    u[2] = odd - even;
    u[3] = far + far_odd;
    u[4] = far - far_odd;
    u[5] = g[2];
}

/* Filters to points, as `convolve` reads them. */
void transform_filters(const filters_t *f, const float *weight, float *points, int threads)
{
    int64_t padded = (f->filters + LANES - 1) / LANES * LANES;
#pragma omp parallel for schedule(static) num_threads(threads)
    for (int64_t first = 0; first < padded; first += SPAN) {
        int64_t panel = first / (PANEL * SPAN) * (PANEL * SPAN), width = smaller(padded - panel, PANEL * SPAN);
        int64_t count = smaller(f->filters - first, SPAN);
        for (int64_t c = 0; c < f->channels; c++) {
            const float *from = weight + first * f->filter_step + c * f->channel_step;
            float *to = points + POINTS * f->channels * panel + c * width + first - panel;
            vec across[SIDE][3];
            for (int j = 0; j < 3; j++) {
                vec taps[3], column[SIDE];
                for (int i = 0; i < 3; i++) {
                    float lanes[SPAN] = {0};
                    for (int64_t k = 0; k < count; k++)
                        lanes[k] = from[k * f->filter_step + i * f->row_step + j * f->col_step];
                    taps[i] = load(lanes);
                }
                filter_to_points(taps, column);
                for (int i = 0; i < SIDE; i++) across[i][j] = column[i];
            }
            for (int i = 0; i < SIDE; i++) {
                vec row[SIDE];
                filter_to_points(across[i], row);
                for (int j = 0; j < SIDE; j++) store(to + (i * SIDE + j) * f->channels * width, row[j]);
            }
        }
    }
}

/* Channels and filters whose gradients are summed together; fewer would have tiles transformed more often. */
#define CHANNELS 128
#define FILTERS 64

/* One axis: 4 gradients of outputs to 6 points, products at 6 points to 3 gradients of a filter. */
INLINE void gradients_to_points(const vec d[TILE], vec z[SIDE])
{
    vec even = d[0] + d[2], odd = d[1] + d[3], far = d[0] + 4 * d[2], far_odd = 2 * d[1] + 8 * d[3];
    z[0] = d[0];
    z[1] = even + odd;
    z[2] = even - odd;
    z[3] = far + far_odd;
    z[4] = far - far_odd;
    z[5] = d[3];
}

INLINE void to_filter(const vec m[SIDE], vec g[3])
{
    vec near = (m[1] + m[2]) / 6, far = m[3] + m[4];
    g[0] = m[0] / 4 - near + far / 24;
    g[1] = (m[2] - m[1]) / 6 + (m[3] - m[4]) / 12;
    g[2] = far / 6 - near + m[5];
}

/* Gradients of a tile's outputs to points: z[point * stride + i] of filter first + i. */
static void read_gradients(const layer_t *l, const float *gradients, const tile_t *t, float *z, int64_t stride,
                           int64_t first, int64_t count)
{
    const float *image = gradients + t->image * l->out_height * l->out_width * l->filters + first;
    for (int64_t k = 0; k < count; k += SPAN) {
        vec across[SIDE][TILE];
#pragma GCC unroll 4
        for (int j = 0; j < TILE; j++) {
            int64_t col = t->col + j * l->dilation;
            vec pixels[TILE], points[SIDE];
#pragma GCC unroll 4
            for (int i = 0; i < TILE; i++) {
                int64_t row = t->row + i * l->dilation;
                const float *from = image + (row * l->out_width + col) * l->filters + k;
                pixels[i] = (vec){0};
                if (row >= l->out_height || col >= l->out_width) continue;
                if (first + k + SPAN <= l->filters)
                    pixels[i] = load(from);
                else
                    for (int64_t n = 0; first + k + n < l->filters; n++) pixels[i][n] = from[n];
            }
            gradients_to_points(pixels, points);
#pragma GCC unroll 6
            for (int i = 0; i < SIDE; i++) across[i][j] = points[i];
        }
#pragma GCC unroll 6
        for (int i = 0; i < SIDE; i++) {
            vec points[SIDE];
            gradients_to_points(across[i], points);
#pragma GCC unroll 6
            for (int j = 0; j < SIDE; j++) store(z + (i * SIDE + j) * stride + k, points[j]);
        }
    }
}

int64_t gradient_workspace_size(const layer_t *l)
{
    return POINTS * (l->block * (CHANNELS + FILTERS) + 2 * LANES + CHANNELS * FILTERS);
}

/* Gradients of the filters.
 *
 * l->splits: parts that the tiles are split into, for there may be few squares of channels and filters.
 * gradients: of the outputs, [B, out_height, out_width, filters].
 * result: [splits, 9, channels, filters rounded up to LANES], to be summed over the first axis.
 * workspace: l->workspace floats for each thread, see gradient_workspace_size.
 */
void differentiate(const layer_t *l, const tile_t *tiles, const float *images, const float *gradients, float *result,
                   float *workspace, int threads)
{
    int64_t padded = padded_filters(l);
    int64_t down = (l->channels + CHANNELS - 1) / CHANNELS, across = (padded + FILTERS - 1) / FILTERS;
    int64_t v_stride = l->block * CHANNELS + LANES, z_stride = l->block * FILTERS + LANES;
#pragma omp parallel for schedule(dynamic) num_threads(threads)
    for (int64_t item = 0; item < down * across * l->splits; item++) {
#ifdef _OPENMP
        float *v = workspace + omp_get_thread_num() * l->workspace;
#else
        float *v = workspace;
#endif
        float *z = v + POINTS * v_stride, *m = z + POINTS * z_stride;
        int64_t part = item / (down * across), square = item % (down * across);
        int64_t channel = square / across * CHANNELS, channels = smaller(CHANNELS, l->channels - channel);
        int64_t filter = square % across * FILTERS, filters = smaller(FILTERS, padded - filter);
        int64_t end = l->tiles * (part + 1) / l->splits;
        for (int64_t i = 0; i < POINTS * CHANNELS * FILTERS; i++) m[i] = 0;
        for (int64_t start = l->tiles * part / l->splits; start < end; start += l->block) {
            int64_t count = smaller(l->block, end - start);
            for (int64_t t = 0; t < count; t++) {
                read_tile(l, images, tiles + start + t, v + t * CHANNELS, v_stride, channel, channels);
                read_gradients(l, gradients, tiles + start + t, z + t * FILTERS, z_stride, filter, filters);
            }
            for (int64_t point = 0; point < POINTS; point++)
                for (int64_t k = 0; k < filters; k += PANEL * SPAN)
                    for (int64_t c = 0; c < channels; c += ROWS) {
                        product_t product = {
                            .a = v + point * v_stride + c,
                            .a_row = 1,
                            .a_step = CHANNELS,
                            .b = z + point * z_stride + k,
                            .b_step = FILTERS,
                            .c = m + (point * CHANNELS + c) * FILTERS + k,
                            .c_row = FILTERS,
                            .depth = count,
                            .add = 1,
                        };
                        multiply_any(smaller(ROWS, channels - c), smaller(PANEL * SPAN, filters - k) / SPAN, &product);
                    }
        }
        for (int64_t c = 0; c < channels; c++)
            for (int64_t k = 0; k < filters; k += SPAN) {
                float *to = result + (part * 9 * l->channels + channel + c) * padded + filter + k;
                vec half[3][SIDE];
                for (int j = 0; j < SIDE; j++) {
                    vec points[SIDE], column[3];
                    for (int i = 0; i < SIDE; i++) points[i] = load(m + ((i * SIDE + j) * CHANNELS + c) * FILTERS + k);
                    to_filter(points, column);
                    for (int i = 0; i < 3; i++) half[i][j] = column[i];
                }
                for (int i = 0; i < 3; i++) {
                    vec row[3];
                    to_filter(half[i], row);
                    for (int j = 0; j < 3; j++) store(to + (i * 3 + j) * l->channels * padded, row[j]);
                }
            }
    }
}
