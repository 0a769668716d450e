// Where a graph's data lie. This library derives none: it uses what the bundle has, or what the Python package has kept
// in this machine's cache directory.
#pragma once

#include <optional>

#include "runtime/bundle.h"
#include "runtime/graph_choice.h"

namespace rubricrm {

// The directory of a graph's data file: the bundle's own, or one of the cache directory that is this user's alone; none
// where neither has the file.
std::optional<fs::path> data_directory(const Bundle& bundle, const GraphFacts& graph);

// Why a graph's data cannot be had; none where they can.
Problem data_problem(const Bundle& bundle, const GraphFacts& graph);

}  // namespace rubricrm
