"""People: who they are, how they sign in, what they may be granted.

Terms: a **user** has one **role** for the whole installation (annotator, researcher, manager, admin), which
says what campaigns may grant them; a **sign-in** is a session kept on the server; a **link** is a one-time
invitation, password reset or first-admin link, consumed by POST. Leans on the kernel alone.
"""
