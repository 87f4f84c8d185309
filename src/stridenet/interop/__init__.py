"""What lets other people's programs and files work with stridenet."""
