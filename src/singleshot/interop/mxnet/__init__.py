"""mxnet-ssd and mxnet-dssd: their files, their operators by MXNet's names, and their training graph."""
