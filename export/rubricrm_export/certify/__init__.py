"""Whether something that runs on a GPU gives the answers of the CPU, and how fast: `rubricrm certify`."""
