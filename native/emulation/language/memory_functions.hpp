// Loads and stores with a hint for the caches, of which there are none here.
#pragma once

#include <type_traits>

template <class T>
T __ldg(const T* address) {
    return *address;
}
template <class T>
T __ldca(const T* address) {
    return *address;
}
template <class T>
T __ldcg(const T* address) {
    return *address;
}
template <class T>
T __ldcs(const T* address) {
    return *address;
}
template <class T>
T __ldlu(const T* address) {
    return *address;
}
template <class T>
T __ldcv(const T* address) {
    return *const_cast<const volatile T*>(address);
}
template <class T>
void __stwb(T* address, std::type_identity_t<T> value) {
    *address = value;
}
template <class T>
void __stcg(T* address, std::type_identity_t<T> value) {
    *address = value;
}
template <class T>
void __stcs(T* address, std::type_identity_t<T> value) {
    *address = value;
}
template <class T>
void __stwt(T* address, std::type_identity_t<T> value) {
    *address = value;
}
