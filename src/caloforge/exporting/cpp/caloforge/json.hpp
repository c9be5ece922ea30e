// A strict reader of JSON (RFC 8259), as much as manifest.json needs: no other library is required.
#ifndef CALOFORGE_JSON_HPP
#define CALOFORGE_JSON_HPP

#include <cctype>
#include <cstdlib>
#include <map>
#include <stdexcept>
#include <string>
#include <vector>

namespace caloforge {

class Json {
 public:
  enum class Kind { null, boolean, number, text, array, object };

  static Json parse(const std::string& text) {
    Reader reader{text};
    Json value = reader.value(0);
    reader.blanks();
    if (reader.place != text.size()) reader.fail("text after the end");
    return value;
  }

  const Json& operator[](const std::string& key) const {
    const auto found = members_.find(key);
    if (kind_ != Kind::object || found == members_.end())
      throw std::runtime_error("caloforge: manifest.json has no \"" + key + "\"; export the model again");
    return found->second;
  }
  bool has(const std::string& key) const { return members_.count(key) > 0; }
  const std::vector<Json>& items() const { return expect(Kind::array), items_; }
  double number() const { return expect(Kind::number), number_; }
  const std::string& text() const { return expect(Kind::text), text_; }

  std::vector<double> numbers() const {
    std::vector<double> found;
    for (const Json& item : items()) found.push_back(item.number());
    return found;
  }

 private:
  static constexpr int kDeepest = 64;

  struct Reader {
    const std::string& text;
    std::size_t place = 0;

    [[noreturn]] void fail(const std::string& what) const {
      throw std::runtime_error("caloforge: manifest.json is no JSON: " + what + " at byte " +
                               std::to_string(place) + "; export the model again");
    }
    void blanks() {
      while (place < text.size() && std::string(" \t\r\n").find(text[place]) != std::string::npos) ++place;
    }
    char peek() const { return place < text.size() ? text[place] : '\0'; }
    void take(char wanted) {
      if (peek() != wanted) fail(std::string("expected '") + wanted + "'");
      ++place;
    }
    void word(const std::string& wanted) {
      if (text.compare(place, wanted.size(), wanted) != 0) fail("expected " + wanted);
      place += wanted.size();
    }

    Json value(int depth) {
      if (depth > kDeepest) fail("nested too deeply");
      blanks();
      Json found;
      switch (peek()) {
        case '{': object(found, depth); break;
        case '[': array(found, depth); break;
        case '"':
          found.kind_ = Kind::text;
          found.text_ = quoted();
          break;
        case 't': found.kind_ = Kind::boolean; word("true"); break;
        case 'f': found.kind_ = Kind::boolean; word("false"); break;
        case 'n': word("null"); break;
        default: number(found);
      }
      blanks();
      return found;
    }
    void object(Json& found, int depth) {
      found.kind_ = Kind::object;
      take('{');
      blanks();
      while (peek() != '}') {
        std::string key = quoted();
        blanks();
        take(':');
        if (!found.members_.emplace(key, value(depth + 1)).second) fail("\"" + key + "\" twice");
        if (peek() == '}') break;
        take(',');
        blanks();
        if (peek() != '"') fail("expected a key");
      }
      take('}');
    }
    void array(Json& found, int depth) {
      found.kind_ = Kind::array;
      take('[');
      blanks();
      while (peek() != ']') {
        found.items_.push_back(value(depth + 1));
        if (peek() == ']') break;
        take(',');
        blanks();
        if (peek() == ']') fail("expected a value");
      }
      take(']');
    }
    std::string quoted() {
      take('"');
      std::string found;
      while (peek() != '"') {
        const char next = peek();
        if (static_cast<unsigned char>(next) < 0x20) fail("a control character or the end in a text");
        ++place;
        found += next == '\\' ? escaped() : std::string(1, next);
      }
      take('"');
      return found;
    }
    std::string escaped() {
      const char next = peek();
      ++place;
      switch (next) {
        case '"': case '\\': case '/': return std::string(1, next);
        case 'b': return "\b";
        case 'f': return "\f";
        case 'n': return "\n";
        case 'r': return "\r";
        case 't': return "\t";
        case 'u': return unicode();
        default: fail("an unknown escape");
      }
    }
    // names and numbers are ASCII; other characters only occur in descriptions, which are not used
    std::string unicode() {
      for (int digit = 0; digit < 4; ++digit, ++place)
        if (!std::isxdigit(static_cast<unsigned char>(peek()))) fail("an escape without four digits");
      return "?";
    }
    void number(Json& found) {
      const std::size_t start = place;
      if (peek() == '-') ++place;
      if (!std::isdigit(static_cast<unsigned char>(peek()))) fail("expected a value");
      const bool zero = peek() == '0';
      digits();
      if (zero && place - start > 1 + (text[start] == '-')) fail("a number that begins with 0");
      if (peek() == '.') { ++place; digits(); }
      if (peek() == 'e' || peek() == 'E') {
        ++place;
        if (peek() == '+' || peek() == '-') ++place;
        digits();
      }
      found.kind_ = Kind::number;
      found.number_ = std::strtod(text.substr(start, place - start).c_str(), nullptr);
    }
    void digits() {
      if (!std::isdigit(static_cast<unsigned char>(peek()))) fail("expected a digit");
      while (std::isdigit(static_cast<unsigned char>(peek()))) ++place;
    }
  };

  void expect(Kind wanted) const {
    if (kind_ != wanted)
      throw std::runtime_error("caloforge: manifest.json has a value of another type; export the model again");
  }

  Kind kind_ = Kind::null;
  double number_ = 0;
  std::string text_;
  std::vector<Json> items_;
  std::map<std::string, Json> members_;
};

}  // namespace caloforge

#endif
