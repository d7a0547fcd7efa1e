# Starts the agent as the receiver will, and asks it nothing: it says that it starts, or why it cannot.
{
  printf '' | SSH_ORIGINAL_COMMAND="agent "<%= it.sha256 %> /usr/local/lib/kraftwerk/agent-login
} 2>&1
