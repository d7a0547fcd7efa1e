# The folder of a project's uploads; it outlives every release.
mkdir -p <%= it.site %>/uploads
chmod 0750 <%= it.site %>/uploads
