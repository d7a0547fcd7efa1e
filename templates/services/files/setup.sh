# The folder of a project's uploads; it outlives every release.
mkdir -p <%= it.site %>/uploads
<% if (it.owner === null) { %>
chmod 0750 <%= it.site %>/uploads
<% } else { %>
# The site writes, nginx reads, nobody else does either: what is made in it is of nginx's group, too.
chown <%= it.owner.user + ':' + it.nginxUser %> <%= it.site %>/uploads
chmod 2750 <%= it.site %>/uploads
<% } %>
