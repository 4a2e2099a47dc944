// Uploads a file with tus-js-client: node upload.cjs FILE ENDPOINT TOKEN
const fs = require("fs");
const tus = require("tus-js-client");

const [path, endpoint, token] = process.argv.slice(2);
const upload = new tus.Upload(fs.createReadStream(path), {
  endpoint: `${endpoint}?token=${token}`,
  uploadSize: fs.statSync(path).size,
  chunkSize: 1 << 20,
  retryDelays: [50, 100, 200, 400],
  metadata: { filename: "mod.zip" },
  onError: (error) => {
    console.error(String(error));
    process.exit(1);
  },
  onSuccess: () => process.exit(0),
});
upload.start();
