// Pictures to try the page on: drawn for it as SVG, handed to the service as JPEG.

export const SAMPLES = [
  { name: "sample-street", title: "A street" },
  { name: "sample-table", title: "A table" },
];
const SIZE = [1200, 800];

/** A sample as a File. */
export async function samplePicture(name) {
  const image = new Image();
  image.src = `page/${name}.svg`;
  await image.decode();
  const canvas = document.createElement("canvas");
  [canvas.width, canvas.height] = SIZE;
  canvas.getContext("2d").drawImage(image, 0, 0, ...SIZE);
  const blob = await new Promise((resolve) => canvas.toBlob(resolve, "image/jpeg", 0.92));
  return new File([blob], `${name.replace("sample-", "")}.jpg`, { type: "image/jpeg" });
}
