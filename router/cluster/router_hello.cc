#include "router/cluster/router_hello.h"

namespace sheaf {

v1::RouterHello MakeRouterHello(const RouterWho& who) {
  v1::RouterHello hello;
  hello.set_protocol_version(kPoolProtocolVersion);
  v1::ModelIdentity& model = *hello.mutable_model();
  model.set_digest(who.model.digest);
  model.set_num_layers(who.model.num_layers);
  model.set_first_moe_layer(who.model.first_moe_layer);
  model.set_num_experts(who.model.num_experts);
  model.set_hidden_size(who.model.hidden_size);
  model.set_name(who.model.name);
  hello.set_instance(who.instance.value());
  hello.set_host(who.host);
  hello.set_pid(who.pid);
  hello.set_version(who.version);
  hello.set_token(who.token);
  return hello;
}

}  // namespace sheaf
