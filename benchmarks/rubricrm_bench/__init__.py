"""Measures latency, throughput and memory of a bundle: `rubricrm bench`; and plans for a device: `rubricrm plan`."""
