"""The pipe: tar, compression, manifest, throttle, each from an iterator of buffers to an iterator of buffers."""
