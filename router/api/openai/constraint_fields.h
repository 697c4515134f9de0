#pragma once
// The many names under which clients ask for structured output: response_format, structured_outputs
// and, of older vLLM, guided_json, guided_regex, guided_choice, guided_grammar.
//
// Threads: pure. Errors: violations are collected in `fields`; what the schema or grammar itself
// has wrong is found when it is compiled.

#include "router/api/request/json/json_fields.h"
#include "router/api/request/parsed_request.h"

namespace sheaf {

void ReadConstraint(JsonFields& fields, std::vector<FieldViolation>& violations,
                    ParsedRequest& request);

}  // namespace sheaf
