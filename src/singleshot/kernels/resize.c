/* From the bytes of an image to the float planes that a network sees, in one pass over the output's rows.
 *
 * Bilinear resize as TF has it (first along x, then along y, in float32), then (value * scale - mean) / std. The two
 * interpolated rows that an output row lies between are kept for the next one, so each row of the image is read once.
 * Every float operation and their order are those of the NumPy form, and no two are fused (-ffp-contract=off): the
 * results are equal to the bit.
 *
 * A pixel and its right neighbour are six bytes: one load of eight fetches both, wherever eight bytes of the row are
 * left. Bytes beyond the row are never read.
 *
 * `weigh_rows` is one axis of Pillow's bilinear: weighted sums of rows of bytes, in integers.
 */
#include <float.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

/* 16: only half precision is computed in something wider. */
_Static_assert(FLT_EVAL_METHOD == 0 || FLT_EVAL_METHOD == 16, "float operations must round to float");

#if defined(__BYTE_ORDER__) && __BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__
#define LITTLE_ENDIAN_WORDS 1
#else
#define LITTLE_ENDIAN_WORDS 0
#endif

typedef struct {
    int64_t size;       /* positions of the output along this axis */
    const int64_t *low; /* [size] the two places in the image that each one lies between; low never falls */
    const int64_t *high;
    const float *share; /* [size] of the high one */
} axis_taps;

typedef struct {
    float scale;
    float mean[3]; /* in the network's channel order, as are the planes */
    float std[3];
    int32_t reversed; /* the network's order is BGR */
} normalisation;

/* How many positions from the first on have eight bytes of the row of `width` pixels at their low place. */
static int64_t positions_with_eight_bytes(const axis_taps *across, int64_t width)
{
    int64_t count = 0;
    while (LITTLE_ENDIAN_WORDS && count < across->size && 3 * across->low[count] + 8 <= 3 * width) count++;
    return count;
}

/* Bytes 0..2 of a word: the left pixel; 3..5: the right one. */
static void gather_pairs(const uint8_t *row, const axis_taps *across, int64_t whole, uint64_t *restrict pairs)
{
    for (int64_t x = 0; x < whole; x++) memcpy(&pairs[x], row + 3 * across->low[x], 8);
    for (int64_t x = whole; x < across->size; x++) {
        const uint8_t *left = row + 3 * across->low[x], *right = row + 3 * across->high[x];
        pairs[x] = 0;
        for (int channel = 0; channel < 3; channel++)
            pairs[x] |= (uint64_t)left[channel] << (8 * channel) | (uint64_t)right[channel] << (8 * channel + 24);
    }
}

/* One row along x: [3, size], channels as in the image. */
static void interpolate_across(const uint64_t *restrict pairs, const float *restrict share, int64_t size,
                               float *restrict out)
{
    for (int channel = 0; channel < 3; channel++)
        for (int64_t x = 0; x < size; x++) {
            int32_t left = (uint8_t)(pairs[x] >> (8 * channel));
            int32_t right = (uint8_t)(pairs[x] >> (8 * channel + 24));
            out[channel * size + x] = (float)(right - left) * share[x] + (float)left;
        }
}

static void interpolate_down(const float *restrict top, const float *restrict bottom, float share, int64_t size,
                             float scale, float mean, float std, float *restrict out)
{
    if (std == 1.0f)
        for (int64_t x = 0; x < size; x++) out[x] = ((bottom[x] - top[x]) * share + top[x]) * scale - mean;
    else
        for (int64_t x = 0; x < size; x++) out[x] = (((bottom[x] - top[x]) * share + top[x]) * scale - mean) / std;
}

/* image: [height, width, 3] bytes, a row every `stride` bytes (which may be negative); out: [3, down.size,
 * across.size]. Returns 0, or -1 without memory. */
int resize_bilinear(const uint8_t *image, int64_t width, int64_t stride, const axis_taps *across, const axis_taps *down,
                    const normalisation *numbers, float *out)
{
    int64_t size = across->size, whole = positions_with_eight_bytes(across, width);
    uint64_t *pairs = malloc((size_t)size * (sizeof(uint64_t) + 6 * sizeof(float)));
    if (!pairs) return -1;
    float *top = (float *)(pairs + size), *bottom = top + 3 * size;
    int64_t top_row = -1, bottom_row = -1;
    for (int64_t y = 0; y < down->size; y++) {
        if (down->low[y] == bottom_row) {
            float *rows = top;
            top = bottom, bottom = rows;
            bottom_row = top_row, top_row = down->low[y];
        }
        if (down->low[y] != top_row) {
            top_row = down->low[y];
            gather_pairs(image + top_row * stride, across, whole, pairs);
            interpolate_across(pairs, across->share, size, top);
        }
        if (down->high[y] != bottom_row) {
            bottom_row = down->high[y];
            gather_pairs(image + bottom_row * stride, across, whole, pairs);
            interpolate_across(pairs, across->share, size, bottom);
        }
        for (int64_t plane = 0; plane < 3; plane++) {
            int64_t channel = numbers->reversed ? 2 - plane : plane;
            interpolate_down(top + channel * size, bottom + channel * size, down->share[y], size, numbers->scale,
                             numbers->mean[plane], numbers->std[plane], out + (plane * down->size + y) * size);
        }
    }
    free(pairs);
    return 0;
}

/* image: [pixels, 3] bytes -> out: [3, pixels]. */
void normalise_bytes(const uint8_t *restrict image, int64_t pixels, const normalisation *numbers, float *restrict out)
{
    for (int64_t plane = 0; plane < 3; plane++) {
        const uint8_t *restrict from = image + (numbers->reversed ? 2 - plane : plane);
        float scale = numbers->scale, mean = numbers->mean[plane], std = numbers->std[plane];
        float *restrict to = out + plane * pixels;
        if (std == 1.0f)
            for (int64_t x = 0; x < pixels; x++) to[x] = (float)from[3 * x] * scale - mean;
        else
            for (int64_t x = 0; x < pixels; x++) to[x] = ((float)from[3 * x] * scale - mean) / std;
    }
}

/* Sums of `taps` rows of bytes, [*, size] -> [rows, size]: weight[tap][row] (of 2^bits) times image row
 * index[tap][row], rounded, clamped to a byte. Returns 0, or -1 without memory. */
int weigh_rows(const uint8_t *image, int64_t size, int64_t taps, int64_t rows, const int64_t *index,
               const int32_t *weight, int32_t bits, uint8_t *out)
{
    int32_t *total = malloc((size_t)size * sizeof(int32_t));
    if (!total) return -1;
    for (int64_t row = 0; row < rows; row++) {
        for (int64_t x = 0; x < size; x++) total[x] = 1 << (bits - 1);
        for (int64_t tap = 0; tap < taps; tap++) {
            int32_t share = weight[tap * rows + row];
            const uint8_t *restrict from = image + index[tap * rows + row] * size;
            for (int64_t x = 0; share && x < size; x++) total[x] += from[x] * share;
        }
        for (int64_t x = 0; x < size; x++) {
            int32_t value = total[x] >> bits;
            out[row * size + x] = (uint8_t)(value < 0 ? 0 : value > 255 ? 255 : value);
        }
    }
    free(total);
    return 0;
}
