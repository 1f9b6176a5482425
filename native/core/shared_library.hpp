// What the system knows of libraries: loading another one at run time, and where to look for it.
#pragma once

#include <string>

namespace moek {

// The folder this library was loaded from, with a trailing separator; UTF-8. Empty when it cannot be told.
std::string own_folder();

// The value of an environment variable; UTF-8. Empty when it is not set.
std::string environment_variable(const char* name);

// Loads the library at `path` (UTF-8) and looks up `symbol`. Null on failure, with the system's reason. The library
// stays loaded for the life of the process.
void* load_symbol(const std::string& path, const char* symbol, std::string* reason);

}  // namespace moek
