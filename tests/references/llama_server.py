"""llama.cpp's server, for tests that kill it: `python tests/references/llama_server.py MODEL.gguf PORT`."""

import sys
import time

import xllamacpp

parameters = xllamacpp.CommonParams()
parameters.model.path = sys.argv[1]
parameters.port = int(sys.argv[2])
parameters.n_parallel = 4
parameters.n_ctx = 4096
server = xllamacpp.Server(parameters)
print("ready", flush=True)
time.sleep(3600)
