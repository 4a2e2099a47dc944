"""Opens images, decodes their frames, and makes WebP and BlurHashes of them."""
