"""Stage 4: drive the test seeds and report episode reward, distance and crash intensity beside blind rows."""
