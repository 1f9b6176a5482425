// Variables of the environment, for tests.
#pragma once

#include <cstdlib>
#include <string>

namespace moek::test {

// Sets a variable of the environment while it lives.
class Environment {
  public:
    Environment(const char* name, const std::string& value) : name_(name) {
        const char* former = std::getenv(name);
        had_ = former != nullptr;
        if (had_) former_ = former;
        setenv(name, value.c_str(), 1);
    }
    ~Environment() {
        if (had_) {
            setenv(name_, former_.c_str(), 1);
        } else {
            unsetenv(name_);
        }
    }
    Environment(const Environment&) = delete;
    Environment& operator=(const Environment&) = delete;

  private:
    const char* name_;
    std::string former_;
    bool had_;
};

}  // namespace moek::test
