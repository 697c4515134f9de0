# Writes OUTPUT, a C++ file that defines EmbeddedPage() as the bytes of INPUT.
file(READ ${INPUT} bytes HEX)
string(LENGTH "${bytes}" digits)
math(EXPR size "${digits} / 2")
string(REGEX REPLACE "([0-9a-f][0-9a-f])" "0x\\1," bytes "${bytes}")
file(WRITE ${OUTPUT} "#include \"router/ui/page_route.h\"

namespace sheaf {
namespace {
constexpr unsigned char kPage[${size}] = {${bytes}};
}  // namespace

std::string_view EmbeddedPage() {
  return {reinterpret_cast<const char*>(kPage), sizeof(kPage)};
}

}  // namespace sheaf
")
