// A zip archive of stored files: JPEG crops would not become smaller.

const TABLE = Uint32Array.from({ length: 256 }, (_, value) => {
  for (let bit = 0; bit < 8; bit++) value = value & 1 ? 0xedb88320 ^ (value >>> 1) : value >>> 1;
  return value;
});

export function crc32(bytes) {
  let value = -1;
  for (const byte of bytes) value = TABLE[(value ^ byte) & 255] ^ (value >>> 8);
  return (value ^ -1) >>> 0;
}

const UTF8_NAMES = 0x800;
const FIRST_DAY = 0x21; // 1 January 1980, the first that a zip knows

/** Numbers as little-endian bytes: [value, width] each. */
function little(...fields) {
  return Uint8Array.from(fields.flatMap(([value, width]) => Array.from({ length: width }, (_, at) => (value / 256 ** at) & 255)));
}

/** A Blob of a zip archive; files: [{name, bytes: Uint8Array}]. */
export function zip(files) {
  const parts = [];
  const listing = [];
  let at = 0;
  for (const { name, bytes } of files) {
    const label = new TextEncoder().encode(name);
    const about = little([20, 2], [UTF8_NAMES, 2], [0, 2], [0, 2], [FIRST_DAY, 2], [crc32(bytes), 4],
      [bytes.length, 4], [bytes.length, 4], [label.length, 2], [0, 2]);
    const head = little([0x04034b50, 4]);
    parts.push(head, about, label, bytes);
    listing.push(little([0x02014b50, 4], [20, 2]), about, little([0, 2], [0, 2], [0, 2], [0, 4], [at, 4]), label);
    at += head.length + about.length + label.length + bytes.length;
  }
  const size = listing.reduce((sum, part) => sum + part.length, 0);
  const count = files.length;
  const end = little([0x06054b50, 4], [0, 2], [0, 2], [count, 2], [count, 2], [size, 4], [at, 4], [0, 2]);
  return new Blob([...parts, ...listing, end], { type: "application/zip" });
}
