import Uppy from "@uppy/core";
import Tus from "@uppy/tus";

window.uploadByUppy = (endpoint, token, file) => {
  const uppy = new Uppy({ autoProceed: false });
  uppy.use(Tus, { endpoint: `${endpoint}?token=${token}`, retryDelays: [50, 100, 200, 400], chunkSize: 1 << 20 });
  uppy.addFile({ name: "mod.zip", type: "application/zip", data: file });
  return uppy.upload().then((result) => [result.successful.length, result.failed.length]);
};
