"""One lock for all that this process does on its devices."""

import threading

# While a CUDA graph is captured, CUDA refuses to allocate, copy or wait in any other thread of the process, and the
# capture fails as well. Reentrant: whoever holds it copies positions too.
DEVICE_LOCK = threading.RLock()
