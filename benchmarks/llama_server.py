"""llama.cpp's own server, for `serving_rivals.py`: `llama_server.py MODEL.gguf PORT SLOTS CONTEXT THREADS`.

It is the one inside xllamacpp, which should be built here, since its wheel is for any processor with AVX2: weights
repacked, flash attention, each slot with the state of its last prompt, which is its default and its best setting here.
"""

from __future__ import annotations

import json
import sys
import time

import xllamacpp

parameters = xllamacpp.CommonParams()
parameters.model.path = sys.argv[1]
parameters.port, parameters.n_parallel, context, threads = map(int, sys.argv[2:])
parameters.n_ctx, parameters.n_batch, parameters.n_ubatch = context * parameters.n_parallel, 512, 512
parameters.cpuparams.n_threads = parameters.cpuparams_batch.n_threads = threads
parameters.flash_attn_type = xllamacpp.llama_flash_attn_type.LLAMA_FLASH_ATTN_TYPE_ENABLED
parameters.verbosity = 0
server = xllamacpp.Server(parameters)
print(json.dumps({"built_with": xllamacpp.get_system_info()}), flush=True)
time.sleep(1 << 30)
