/* From raw heads to detections, exactly as `singleshot.multibox.decode.postprocess` defines them: greedy NMS or none.
 *
 * One image after the other, in two steps.
 *
 * 1. Candidates. An anchor's logits are compared with what could score above the threshold at all: a softmax is less
 *    than exp(logit - background). Only anchors with a hopeful logit are exponentiated. A candidate is one 64-bit
 *    number: the bits of its score (which order positive floats), then its place, anchor * columns + column, inverted,
 *    so that the larger number is the one to be taken first and equal scores go by the lower place.
 * 2. Selection. A heap gives the candidates best first. Each is decoded, compared with the survivors of its group (its
 *    class, or all), and kept or not, until enough are kept. A crowded image thus costs little more than another: most
 *    candidates are neither sorted nor decoded.
 *
 * Survivors of a group are a list of blocks of LANES boxes, so that one step compares with LANES of them. Unused lanes
 * have a NaN area, which overlaps nothing. Comparisons are written so that NaN spreads as it does in torch.
 */

#include <math.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#if __BYTE_ORDER__ != __ORDER_LITTLE_ENDIAN__
#error "masks are read as little-endian numbers"
#endif

#define LANES 8

typedef float floats __attribute__((vector_size(4 * LANES)));
typedef int32_t ints __attribute__((vector_size(4 * LANES)));
typedef uint32_t words __attribute__((vector_size(4 * LANES)));
typedef int8_t bytes __attribute__((vector_size(LANES)));

/* In the order of `detect._Settings`. */
typedef struct {
    int64_t anchors;        /* A */
    int64_t columns;        /* K */
    int64_t classes;        /* C */
    int64_t background;     /* a column that is no class; -1: `reach` alone decides */
    int64_t top_k;          /* candidates of a group that enter */
    int64_t top_k_of_image; /* candidates of an image that enter */
    int64_t max_of_group;   /* survivors of a group */
    int64_t max_of_image;   /* D */
    int32_t sigmoid, best_class, agnostic, greedy, at_threshold, clip_before, clip_after, swapped;
    float reach; /* a logit below this (plus the background's) cannot score enough */
    float score, iou, objectness;
    float union_eps;    /* added to the area of a union */
    float variances[4]; /* cx, cy, w, h */
    float max_log_ratio;
    float width, height;
} Settings;

/* NULL for the last two, but for RefineDet. */
typedef struct {
    const float *codes, *logits, *arm_codes, *arm_logits;
} Heads;

typedef struct {
    float x0, y0, x1, y1;
} Box;

typedef struct {
    float x0[LANES], y0[LANES], x1[LANES], y1[LANES], area[LANES];
    int64_t next; /* -1 ends the list */
} Block;

typedef struct {
    int64_t entered, kept, block;
} Group;

typedef struct {
    uint64_t *keys;
    int64_t size, capacity;
    int64_t *hopeful; /* anchors, [A] */
    int64_t width;    /* columns, but LANES at least */
    float *row;       /* an anchor's scores, [width] */
    /* A row is read in vectors, of which the last ends with the row: it may repeat columns of the one before. */
    int32_t *is_class; /* a mask for each vector, without what is repeated */
    ints fresh;        /* lanes of the last vector that repeat nothing */
    int32_t *class_of; /* [K] */
    Group *groups;
    Block *blocks;
    int64_t blocks_used, blocks_capacity;
} Scratch;

static inline floats load(const float *from)
{
    floats vector;
    memcpy(&vector, from, sizeof vector);
    return vector;
}

static inline void store(float *to, floats vector) { memcpy(to, &vector, sizeof vector); }

static inline ints load_mask(const int32_t *from)
{
    ints vector;
    memcpy(&vector, from, sizeof vector);
    return vector;
}

static inline floats choose(ints mask, floats yes, floats no)
{
    return (floats)((mask & (ints)yes) | (~mask & (ints)no));
}

/* A byte for each lane, from the lowest on: 1 where the mask is set, else 0. */
static inline uint64_t packed(ints mask)
{
    const bytes narrow = __builtin_convertvector(mask, bytes);
    uint64_t result;
    memcpy(&result, &narrow, sizeof result);
    return result & 0x0101010101010101u;
}

static inline floats all(float value) { return value - (floats){0}; }

/* exp within about an ulp; 0 below -104, inf above 88.8, NaN for NaN. */
static inline floats exponentials(floats x)
{
    const float round = 12582912.0f; /* 1.5 * 2^23: a sum with it has no binary places */
    x = choose(x < all(-104.0f), all(-104.0f), x);
    x = choose(x > all(89.0f), all(89.0f), x);
    const floats shifted = x * 1.44269504088896341f + round;
    const ints power = (ints)shifted - (ints)all(round);
    const floats whole = shifted - round;
    const floats r = (x - whole * 0.693359375f) - whole * -2.12194440e-4f;
    floats p = r * 1.9875691500e-4f + 1.3981999507e-3f;
    p = p * r + 8.3334519073e-3f;
    p = p * r + 4.1665795894e-2f;
    p = p * r + 1.6666665459e-1f;
    p = p * r + 5.0000001201e-1f;
    p = (p * r * r + r) + 1.0f;
    const ints half = power >> 1; /* two factors: one alone could not be as small as the result */
    return p * (floats)((words)(half + 127) << 23) * (floats)((words)(power - half + 127) << 23);
}

static inline float larger(float a, float b) { return a > b ? a : b; }

static inline float largest(floats x)
{
    return larger(larger(larger(x[0], x[4]), larger(x[2], x[6])), larger(larger(x[1], x[5]), larger(x[3], x[7])));
}

static inline float total(floats x) { return ((x[0] + x[4]) + (x[2] + x[6])) + ((x[1] + x[5]) + (x[3] + x[7])); }

/* Scores of an anchor, of `width` columns: LANES or more. See `Scratch` for `fresh`. */
static inline void score_row(const float *logits, int64_t width, ints fresh, int sigmoid, float *row)
{
    const int64_t last = width - LANES;
    const floats end = load(logits + last);
    if (sigmoid) {
        for (int64_t k = 0; k < last; k += LANES) store(row + k, 1.0f / (1.0f + exponentials(-load(logits + k))));
        store(row + last, 1.0f / (1.0f + exponentials(-end)));
        return;
    }
    floats peaks = end;
    for (int64_t k = 0; k < last; k += LANES) peaks = choose(load(logits + k) > peaks, load(logits + k), peaks);
    const float peak = largest(peaks);
    const floats end_part = exponentials(end - peak);
    floats sums = choose(fresh, end_part, all(0.0f));
    for (int64_t k = 0; k < last; k += LANES) {
        const floats part = exponentials(load(logits + k) - peak);
        store(row + k, part);
        sums += part;
    }
    const float sum = total(sums);
    for (int64_t k = 0; k < last; k += LANES) store(row + k, load(row + k) / sum);
    store(row + last, end_part / sum);
}

static int is_object(const float *arm_logits, float least)
{
    const float top = arm_logits[0] > arm_logits[1] ? arm_logits[0] : arm_logits[1];
    const float no = expf(arm_logits[0] - top), yes = expf(arm_logits[1] - top);
    return !(yes / (no + yes) <= least);
}

/* Whether a logit of a class reaches `least`. */
static inline int is_hopeful(const float *logits, int64_t width, const int32_t *is_class, float least)
{
    ints any = {0};
    int64_t k = 0;
    for (; k < width - LANES; k += LANES) any |= load_mask(is_class + k) & (load(logits + k) >= least);
    any |= load_mask(is_class + k) & (load(logits + width - LANES) >= least);
    return packed(any) != 0;
}

static inline void add(Scratch *scratch, float score, int64_t place)
{
    uint32_t bits;
    memcpy(&bits, &score, sizeof bits);
    scratch->keys[scratch->size++] = (uint64_t)bits << 32 | (UINT32_MAX - (uint32_t)place);
}

static void add_best(const Settings *s, Scratch *scratch, const int32_t *column_of, int64_t anchor)
{
    int32_t best = column_of[0];
    for (int64_t c = 0; c < s->classes; c++) {
        const float score = scratch->row[column_of[c]];
        if (isnan(score)) return;
        if (score > scratch->row[best]) best = column_of[c];
    }
    if (scratch->row[best] > s->score) add(scratch, scratch->row[best], anchor * s->columns + best);
}

static inline void add_all(const Settings *s, Scratch *scratch, int64_t anchor)
{
    const int64_t last = scratch->width - LANES;
    for (int64_t k = 0; k < scratch->width; k += LANES) {
        const int64_t at = k < last ? k : last;
        const floats scores = load(scratch->row + at);
        uint64_t good = packed(load_mask(scratch->is_class + k) & (scores > s->score));
        for (; good; good &= good - 1) {
            const int64_t column = at + __builtin_ctzll(good) / 8;
            add(scratch, scratch->row[column], anchor * s->columns + column);
        }
    }
}

/* Place for the candidates of one more anchor. */
static int reserve(Scratch *scratch, int64_t columns)
{
    if (scratch->size + columns <= scratch->capacity) return 0;
    const int64_t capacity = 2 * scratch->capacity + columns;
    uint64_t *keys = realloc(scratch->keys, (size_t)capacity * sizeof *keys);
    if (!keys) return -1;
    scratch->keys = keys;
    scratch->capacity = capacity;
    return 0;
}

/* An anchor's logits; few columns are copied, so that a vector can be read. */
static inline const float *row_of(const Settings *s, const float *logits, float *copy)
{
    if (s->columns >= LANES) return logits;
    memcpy(copy, logits, (size_t)s->columns * sizeof *copy);
    return copy;
}

static int find_candidates(const Settings *s, const Heads *heads, int64_t image, const int32_t *column_of,
                           Scratch *scratch)
{
    const float *logits = heads->logits + image * s->anchors * s->columns;
    float copy[LANES];
    for (int i = 0; i < LANES; i++) copy[i] = -INFINITY;
    int64_t hopeful = 0; /* all are found before the first is exponentiated: no branch to mispredict */
    for (int64_t a = 0; a < s->anchors; a++) {
        const float *row = row_of(s, logits + a * s->columns, copy);
        const float least = s->background < 0 ? s->reach : row[s->background] + s->reach;
        scratch->hopeful[hopeful] = a;
        hopeful += is_hopeful(row, scratch->width, scratch->is_class, least);
    }
    scratch->size = 0;
    for (int64_t i = 0; i < hopeful; i++) {
        const int64_t a = scratch->hopeful[i];
        if (heads->arm_logits && !is_object(heads->arm_logits + 2 * (image * s->anchors + a), s->objectness)) continue;
        if (reserve(scratch, s->columns)) return -1;
        score_row(row_of(s, logits + a * s->columns, copy), scratch->width, scratch->fresh, s->sigmoid, scratch->row);
        if (s->best_class)
            add_best(s, scratch, column_of, a);
        else
            add_all(s, scratch, a);
    }
    return 0;
}

static void sift(uint64_t *heap, int64_t size, int64_t at)
{
    const uint64_t key = heap[at];
    for (int64_t child; (child = 2 * at + 1) < size; at = child) {
        child += child + 1 < size && heap[child + 1] > heap[child];
        if (heap[child] <= key) break;
        heap[at] = heap[child];
    }
    heap[at] = key;
}

static inline float grown(float log_ratio, float limit) { return expf(log_ratio > limit ? limit : log_ratio); }

static Box decode(const float *code, const float *anchor, const Settings *s)
{
    const int swap = s->swapped;
    const float x = code[swap] * s->variances[0] * anchor[2] + anchor[0];
    const float y = code[1 - swap] * s->variances[1] * anchor[3] + anchor[1];
    const float w = grown(code[2 + swap] * s->variances[2], s->max_log_ratio) * anchor[2] / 2;
    const float h = grown(code[3 - swap] * s->variances[3], s->max_log_ratio) * anchor[3] / 2;
    return (Box){x - w, y - h, x + w, y + h};
}

static inline float clamp(float x, float high) { return x < 0 ? 0 : x > high ? high : x; }

static Box clip(Box box, const Settings *s)
{
    const float w = s->width, h = s->height;
    return (Box){clamp(box.x0, w), clamp(box.y0, h), clamp(box.x1, w), clamp(box.y1, h)};
}

static Box box_at(const Settings *s, const Heads *heads, const float *anchors, int64_t image, int64_t anchor)
{
    const int64_t at = 4 * (image * s->anchors + anchor);
    const float *origin = anchors + 4 * anchor;
    float refined[4];
    if (heads->arm_codes) {
        const Box b = decode(heads->arm_codes + at, origin, s);
        refined[0] = (b.x0 + b.x1) / 2, refined[1] = (b.y0 + b.y1) / 2;
        refined[2] = b.x1 - b.x0, refined[3] = b.y1 - b.y0;
        origin = refined;
    }
    const Box box = decode(heads->codes + at, origin, s);
    return s->clip_before ? clip(box, s) : box;
}

static inline float side(float low, float high) { return high - low < 0 ? 0 : high - low; }

static inline float area_of(Box box) { return side(box.x0, box.x1) * side(box.y0, box.y1); }

static inline floats overlap(floats low_a, floats high_a, float low_b, float high_b)
{
    const floats low = choose(low_a > low_b, low_a, all(low_b)), high = choose(high_a < high_b, high_a, all(high_b));
    return choose(high - low < 0.0f, all(0.0f), high - low);
}

/* Whether a survivor of the group overlaps the box too much. */
static int is_struck(const Settings *s, const Scratch *scratch, const Group *group, Box box, float area)
{
    for (int64_t at = group->block; at >= 0; at = scratch->blocks[at].next) {
        const Block *b = scratch->blocks + at;
        const floats common =
            overlap(load(b->x0), load(b->x1), box.x0, box.x1) * overlap(load(b->y0), load(b->y1), box.y0, box.y1);
        floats whole = ((load(b->area) + area) - common) + s->union_eps;
        whole = choose(whole < __FLT_MIN__, all(__FLT_MIN__), whole);
        const floats iou = common / whole;
        if (packed(s->at_threshold ? iou >= s->iou : iou > s->iou)) return 1;
    }
    return 0;
}

static int keep(Scratch *scratch, Group *group, Box box, float area)
{
    const int64_t lane = group->kept++ % LANES;
    if (lane == 0) {
        if (scratch->blocks_used == scratch->blocks_capacity) {
            const int64_t capacity = 2 * scratch->blocks_capacity + 16;
            Block *blocks = realloc(scratch->blocks, (size_t)capacity * sizeof *blocks);
            if (!blocks) return -1;
            scratch->blocks = blocks;
            scratch->blocks_capacity = capacity;
        }
        Block *fresh = scratch->blocks + scratch->blocks_used;
        *fresh = (Block){.next = group->block};
        for (int i = 0; i < LANES; i++) fresh->area[i] = NAN;
        group->block = scratch->blocks_used++;
    }
    Block *b = scratch->blocks + group->block;
    b->x0[lane] = box.x0, b->y0[lane] = box.y0, b->x1[lane] = box.x1, b->y1[lane] = box.y1, b->area[lane] = area;
    return 0;
}

/* Survivors of an image, best first; their number, or -1 without memory. */
static int64_t select_best(const Settings *s, const Heads *heads, const float *anchors, int64_t image, Scratch *scratch,
                           float *boxes, float *scores, int64_t *class_ids)
{
    uint64_t *heap = scratch->keys;
    for (int64_t i = scratch->size / 2 - 1; i >= 0; i--) sift(heap, scratch->size, i);
    for (int64_t g = 0; g < (s->agnostic ? 1 : s->classes); g++) scratch->groups[g] = (Group){0, 0, -1};
    scratch->blocks_used = 0;
    int64_t count = 0, left = s->top_k_of_image;
    while (scratch->size > 0 && count < s->max_of_image && left-- > 0) {
        const uint64_t key = heap[0];
        heap[0] = heap[--scratch->size];
        sift(heap, scratch->size, 0);
        const int64_t place = UINT32_MAX - (uint32_t)key;
        const int32_t class_id = scratch->class_of[place % s->columns];
        Group *group = scratch->groups + (s->agnostic ? 0 : class_id);
        if (group->entered++ >= s->top_k || group->kept >= s->max_of_group) continue;
        Box box = box_at(s, heads, anchors, image, place / s->columns);
        const float area = area_of(box);
        if (s->greedy && is_struck(s, scratch, group, box, area)) continue;
        if (keep(scratch, group, box, area)) return -1;
        if (s->clip_after) box = clip(box, s);
        const uint32_t bits = (uint32_t)(key >> 32);
        memcpy(boxes + 4 * count, &box, sizeof box);
        memcpy(scores + count, &bits, sizeof bits);
        class_ids[count++] = class_id;
    }
    return count;
}

static void release(Scratch *scratch)
{
    free(scratch->keys);
    free(scratch->hopeful);
    free(scratch->row);
    free(scratch->is_class);
    free(scratch->class_of);
    free(scratch->groups);
    free(scratch->blocks);
}

static int prepare(const Settings *s, const int32_t *column_of, Scratch *scratch)
{
    const int64_t width = s->columns < LANES ? LANES : s->columns, last = width - LANES;
    const int64_t vectors = (width + LANES - 1) / LANES;
    *scratch = (Scratch){.width = width};
    scratch->hopeful = malloc((size_t)(s->anchors + 1) * sizeof *scratch->hopeful);
    scratch->row = malloc((size_t)width * sizeof *scratch->row);
    scratch->is_class = calloc((size_t)(vectors * LANES), sizeof *scratch->is_class);
    scratch->class_of = calloc((size_t)s->columns, sizeof *scratch->class_of);
    scratch->groups = malloc((size_t)s->classes * sizeof *scratch->groups);
    if (!scratch->hopeful || !scratch->row || !scratch->is_class || !scratch->class_of || !scratch->groups) return -1;
    for (int64_t c = 0; c < s->classes; c++) {
        const int64_t column = column_of[c], before = (vectors - 1) * LANES;
        scratch->is_class[column < before ? column : before + column - last] = -1;
        scratch->class_of[column] = (int32_t)c;
    }
    for (int64_t lane = 0; lane < LANES; lane++) scratch->fresh[lane] = last + lane >= (vectors - 1) * LANES ? -1 : 0;
    return 0;
}

/* Detections of all images.
 *
 * heads: codes [B, A, 4], logits [B, A, K], perhaps arm_codes [B, A, 4] and arm_logits [B, A, 2].
 * anchors: cxcywh, [A, 4]. column_of: [C], each in 0 ... K - 1 and no two equal. A * K is below 2^32.
 * boxes [B, D, 4], scores [B, D], class_ids [B, D]: written up to the image's count; the rest stays as it was.
 * counts: [B].
 * Returns 0, or -1 without memory.
 */
int detect(const Settings *s, const Heads *heads, const float *anchors, const int32_t *column_of, int64_t images,
           float *boxes, float *scores, int64_t *class_ids, int64_t *counts)
{
    Scratch scratch;
    int failed = prepare(s, column_of, &scratch);
    for (int64_t image = 0; !failed && image < images; image++) {
        const int64_t at = image * s->max_of_image;
        failed = find_candidates(s, heads, image, column_of, &scratch);
        if (failed) break;
        counts[image] = select_best(s, heads, anchors, image, &scratch, boxes + 4 * at, scores + at, class_ids + at);
        failed = counts[image] < 0;
    }
    release(&scratch);
    return failed ? -1 : 0;
}
